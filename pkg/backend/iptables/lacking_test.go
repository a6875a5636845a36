package iptables

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// An extension that the kernel lacks is no more than a warning to a test that
// ends well: it is refused all the same, at the first line that asks for it.
func TestLackingExtension(t *testing.T) {
	t.Parallel()
	restore := filepath.Join(t.TempDir(), "restore")
	script := "#!/bin/sh\ncat >/dev/null\necho 'Warning: Extension MASQUERADE revision 0 not supported, missing kernel module?' >&2\n"
	if err := os.WriteFile(restore, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	b := &Backend{
		enter:    func(do func() error) error { return do() },
		variant:  legacyVariant,
		programs: map[ruleset.Family]programs{ruleset.IPv6: {restore: restore}},
	}
	x := &file{family: ruleset.IPv6, table: "nat", lines: []fileLine{
		{head: "-A IPMASQ-a -m comment --comment MASQUERADE -j RETURN", origin: ruleset.Origin{Entry: "first"}},
		{head: "-A IPMASQ-a -o eth0 -j MASQUERADE", origin: ruleset.Origin{Entry: "second"}},
	}}
	err := b.restore(context.Background(), &batch{ruleset.IPv6, []*file{x}}, true)
	var refused *backend.Refused
	if !errors.As(err, &refused) || refused.Origin.Entry != "second" || !errors.Is(err, backend.ErrNotSupported) {
		t.Fatalf("got %v", err)
	}
	if want := "MASQUERADE of iptables is missing (a module such as xt_MASQUERADE or ip6t_MASQUERADE)"; !strings.Contains(err.Error(), want) {
		t.Errorf("%v\nwant %q", err, want)
	}
}
