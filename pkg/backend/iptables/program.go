package iptables

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// programs are those of one family: the tool itself and what it is called with
// -save and -restore behind it.
type programs struct{ save, restore string }

// variants are the names under which iptables is looked for, in this order: the
// host's choice first.
func variants() []string { return []string{"iptables", "iptables-nft", "iptables-legacy"} }

// find looks for the programs of a variant. A host may have none for IPv6.
func find(variant string) (map[ruleset.Family]programs, error) {
	names := variants()
	if variant != "" {
		names = []string{variant}
	}
	var why error
	for _, name := range names {
		found := map[ruleset.Family]programs{}
		for _, f := range families() {
			tool := name
			if f == ruleset.IPv6 {
				tool = "ip6" + strings.TrimPrefix(name, "ip")
			}
			p, err := probe(f, tool)
			if err == nil {
				found[f] = p
			} else if why == nil || f == ruleset.IPv4 {
				why = err
			}
		}
		if _, ok := found[ruleset.IPv4]; ok {
			return found, nil
		}
	}
	return nil, fmt.Errorf("%w: %w", backend.ErrNotSupported, why)
}

// oldest is the version from which on iptables-restore waits for the lock, and
// takes --random-fully.
var oldest = [3]int{1, 6, 2}

func probe(f ruleset.Family, tool string) (programs, error) {
	v, err := version(f, tool)
	if err != nil {
		return programs{}, fmt.Errorf("look for %s: %w", tool, err)
	}
	if slices.Compare(v[:], oldest[:]) < 0 {
		return programs{}, fmt.Errorf("%s is version %d.%d.%d, older than %d.%d.%d", tool, v[0], v[1], v[2], oldest[0], oldest[1], oldest[2])
	}
	p := programs{tool + "-save", tool + "-restore"}
	for _, name := range []string{p.save, p.restore} {
		if _, err := exec.LookPath(name); err != nil {
			return programs{}, err
		}
	}
	return p, nil
}

// busy is the exit code of a program that did not get the xtables lock in time.
const busy = 4

// run runs a program in the namespace.
func (b *Backend) run(ctx context.Context, input, name string, args ...string) (string, error) {
	var out, problem bytes.Buffer
	err := b.enter(func() error {
		c := exec.CommandContext(ctx, name, args...)
		c.Stdin, c.Stdout, c.Stderr = strings.NewReader(input), &out, &problem
		return c.Run()
	})
	if err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		return "", &programError{name, strings.TrimSpace(problem.String()), err}
	}
	return out.String(), nil
}

// programError is what a program said when it failed.
type programError struct {
	name, said string
	err        error
}

func (e *programError) Error() string {
	if e.said == "" {
		return e.name + ": " + e.err.Error()
	}
	// The first line may be no more than who speaks.
	var lines []string
	for l := range strings.Lines(e.said) {
		if l = strings.TrimSpace(l); l != "" && !strings.HasPrefix(l, "Try `") && !strings.HasPrefix(l, "#") {
			lines = append(lines, strings.TrimSpace(speaker.ReplaceAllString(l, "")))
		}
	}
	return e.name + ": " + strings.TrimSpace(strings.Join(lines, " "))
}

func (e *programError) Unwrap() error { return e.err }

var (
	lineWords = regexp.MustCompile(`(?i)\bline:? (\d+)`)
	speaker   = regexp.MustCompile(`^ip6?tables[a-z-]*( v[0-9.]+ \([a-z_]+\))?:`)
)

// line is the line that the program did not take, from 1; 0 where it does not
// say.
func (e *programError) line() int {
	if m := lineWords.FindStringSubmatch(e.said); m != nil {
		n, _ := strconv.Atoi(m[1])
		return n
	}
	return 0
}

// restore gives a file to iptables-restore. Somebody else may hold the lock of
// xtables: then it says so, and waits.
func (b *Backend) restore(ctx context.Context, f *file, test bool) error {
	p, ok := b.programs[f.family]
	if !ok {
		return fmt.Errorf("%w: there is no ip6tables, and the policy has rules for IPv6", backend.ErrNotSupported)
	}
	args := []string{"--noflush", "--counters"}
	if test {
		args = append(args, "--test")
	}
	text := f.text(true)
	_, err := b.run(ctx, text, p.restore, append(args, "--wait", "1")...)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == busy {
		if b.Waiting != nil {
			b.Waiting("another program holds the lock of xtables")
		}
		_, err = b.run(ctx, text, p.restore, append(args, "--wait")...)
	}
	return f.refused(err)
}

// refused names the entry of the line that a program did not take.
func (f *file) refused(err error) error {
	var e *programError
	if !errors.As(err, &e) {
		return err
	}
	r := &backend.Refused{Object: fmt.Sprintf("the table %s (%s)", f.table, familyName(f.family)), Err: err}
	if i := e.line() - 2; i >= 0 && i < len(f.lines) { // the first line is the table's
		l := f.lines[i]
		r.Object, r.Origin = fmt.Sprintf("%q in table %s (%s)", l.text, f.table, familyName(f.family)), l.origin
	}
	return r
}

func familyName(f ruleset.Family) string {
	if f == ruleset.IPv6 {
		return "IPv6"
	}
	return "IPv4"
}
