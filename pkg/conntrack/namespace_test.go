//go:build linux

package conntrack

import (
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }
