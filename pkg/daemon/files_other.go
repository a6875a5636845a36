//go:build !linux

package daemon

import (
	"errors"
	"time"
)

// fileWatch needs Linux.
type fileWatch struct{}

func watchFiles() (*fileWatch, error) { return nil, errors.ErrUnsupported }

func (*fileWatch) watch(places) error  { return errors.ErrUnsupported }
func (*fileWatch) next() (bool, error) { return false, errors.ErrUnsupported }
func (*fileWatch) close() error        { return nil }

func monotonic() time.Duration { return 0 }
