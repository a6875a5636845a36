package iptables

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/foreign"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// What the programs say of a part that the kernel lacks. The first is a warning: the program then goes on with a
// form that the kernel may not have, and where it only tests, it ends well.
var (
	missingExtension = regexp.MustCompile(`Extension (\S+) revision \d+ not supported, missing kernel module`)
	missingTable     = regexp.MustCompile(`unable to initialize table '(\w+)'`)
)

// errLacks is a test that went well, but for a warning.
var errLacks = errors.New("tested against a kernel that lacks it")

// extension is what of iptables the kernel lacks, where the program says so.
func (e *programError) extension() string {
	if m := missingExtension.FindStringSubmatch(e.said); m != nil {
		return m[1]
	}
	return ""
}

// uses says whether a line asks for an extension.
func (l *fileLine) uses(extension string) bool {
	text := l.text() + " "
	return slices.ContainsFunc([]string{" -m ", " -j ", " -p "}, func(option string) bool { return strings.Contains(text, option+extension+" ") })
}

// lacking names the part of the kernel that is missing, where that is why a program fails.
func (b *Backend) lacking(f ruleset.Family, err error) error {
	var e *programError
	if !errors.As(err, &e) {
		return err
	}
	own := "ip" // how the modules of a family alone begin
	if f == ruleset.IPv6 {
		own = "ip6"
	}
	if name := e.extension(); name != "" {
		return fmt.Errorf("%w: %s of iptables is missing (a module such as xt_%s or %st_%s): %w", backend.ErrNotSupported, name, name, own, name, err)
	}
	m := missingTable.FindStringSubmatch(e.said)
	if m == nil || b.variant != legacyVariant {
		return err
	}
	// The program says the same where it may not.
	var why error
	_ = b.enter(func() error { why = foreign.AskLegacy(f == ruleset.IPv6, m[1]); return nil })
	switch {
	case errors.Is(why, foreign.ErrNoTables):
		return fmt.Errorf("%w: the module %s_tables (CONFIG_%s_NF_IPTABLES) is missing: %w", backend.ErrNotSupported, own, strings.ToUpper(own), err)
	case errors.Is(why, os.ErrNotExist):
		return fmt.Errorf("%w: the module %stable_%s (CONFIG_%s_NF_%s) is missing: %w",
			backend.ErrNotSupported, own, m[1], strings.ToUpper(own), strings.ToUpper(m[1]), err)
	case why != nil:
		return fmt.Errorf("%w: %w", why, err)
	}
	return err
}

// known says whether the kernel has the tables of the variant: of the legacy one, for iptables-legacy-save is content
// with a kernel that has none. The programs load the module themselves when they are to change something.
func (b *Backend) known(ctx context.Context) error {
	if b.variant != legacyVariant {
		return nil
	}
	there := func() (is bool) {
		_ = b.enter(func() error { is = foreign.HasLegacy(); return nil })
		return is
	}
	if there() {
		return nil
	}
	backend.LoadModules(ctx, []string{"ip_tables"})
	if there() {
		return nil
	}
	return fmt.Errorf("%s (CONFIG_IP_NF_IPTABLES): %w: the module ip_tables is missing", legacyVariant, backend.ErrNotSupported)
}
