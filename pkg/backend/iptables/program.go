package iptables

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
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

// variants are the names under which a variant is looked for, in this order: the
// host's choice first where that is asked for.
func variants(of string) []string {
	switch of {
	case "":
		return []string{"iptables", nftVariant, legacyVariant}
	case nftVariant, legacyVariant:
		return []string{of, "iptables"} // not every host has it under both names
	}
	return []string{of}
}

// Choice is the variant that the host has chosen. It is
// [backend.ErrNotSupported] where there is none.
func Choice() (variant string, err error) {
	var why error
	for _, name := range variants("") {
		variant, err := variantOf(name)
		if err == nil {
			return variant, nil
		}
		why = cmp.Or(why, err)
	}
	return "", fmt.Errorf("%w%w", why, notSupported{})
}

// find looks for the programs of a variant, and says which one they are. A host
// may have none for IPv6.
func find(variant string) (found map[ruleset.Family]programs, is string, err error) {
	var why error
	for _, name := range variants(variant) {
		is, err := variantOf(name)
		if err == nil && variant != "" && variant != is {
			err = fmt.Errorf("%s is %s, and not %s", name, is, variant)
		}
		if err != nil {
			why = cmp.Or(why, err)
			continue
		}
		found := map[ruleset.Family]programs{}
		for _, f := range families() {
			p, err := probe(f, toolOf(f, name, is))
			if err == nil {
				found[f] = p
			} else if why == nil || f == ruleset.IPv4 {
				why = err
			}
		}
		if _, ok := found[ruleset.IPv4]; ok {
			return found, is, nil
		}
	}
	return nil, "", fmt.Errorf("%w%w", why, notSupported{})
}

// toolOf is the program of a family beside that of IPv4: a host may have chosen
// another variant for IPv6, and the rules of both are to be in one.
func toolOf(f ruleset.Family, name, variant string) string {
	if f == ruleset.IPv4 {
		return name
	}
	tool := "ip6" + strings.TrimPrefix(name, "ip")
	if is, err := variantOf(tool); err == nil && is != variant {
		tool = "ip6" + strings.TrimPrefix(variant, "ip")
	}
	return tool
}

// variantOf says which variant a program is: what it is a link to says so on most
// hosts, and the program itself on all.
func variantOf(tool string) (string, error) {
	path, err := lookFor(tool)
	if err != nil {
		return "", err
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		switch base := filepath.Base(real); {
		case strings.Contains(base, "nft"):
			return nftVariant, nil
		case strings.Contains(base, "legacy"):
			return legacyVariant, nil
		}
	}
	said, err := exec.Command(path, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("look for %s: %w", tool, err)
	}
	if bytes.Contains(said, []byte("(nf_tables)")) {
		return nftVariant, nil
	}
	return legacyVariant, nil
}

// lookFor finds a program in PATH.
func lookFor(name string) (path string, err error) {
	path, err = exec.LookPath(name)
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return "", fmt.Errorf("%s: %w", name, backend.ErrNoProgram)
	case err != nil:
		return "", fmt.Errorf("look for %s: %w", name, err)
	}
	return path, nil
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
		if _, err := lookFor(name); err != nil {
			return programs{}, err
		}
	}
	return p, nil
}

// locked says whether a program did not get the xtables lock in time. The nft
// variant ends with the same code for other reasons.
func locked(err error) bool {
	const busy = 4
	var exit *exec.ExitError
	var e *programError
	return errors.As(err, &exit) && exit.ExitCode() == busy && errors.As(err, &e) && strings.Contains(e.said, "xtables lock")
}

// streams are what a program reads, and who reads what it prints; and a file that
// it has open as long as it runs.
type streams struct {
	in   []byte
	out  func(io.Reader) error
	open *os.File
}

// run runs a program in the namespace.
func (b *Backend) run(ctx context.Context, s streams, name string, args ...string) error {
	var problem bytes.Buffer
	err := b.enter(func() error {
		c := exec.CommandContext(ctx, name, args...)
		c.Stderr = &problem
		if s.in != nil {
			c.Stdin = bytes.NewReader(s.in)
		}
		if s.open != nil {
			c.ExtraFiles = []*os.File{s.open}
		}
		tie(c)
		if s.out == nil {
			err := c.Run()
			if err == nil && missingExtension.Match(problem.Bytes()) {
				err = errLacks
			}
			return err
		}
		out, err := c.StdoutPipe()
		if err != nil {
			return err
		}
		if err := c.Start(); err != nil {
			return err
		}
		err = s.out(out)
		_, _ = io.Copy(io.Discard, out) // so that it ends
		return cmp.Or(c.Wait(), err)
	})
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return &programError{name, strings.TrimSpace(problem.String()), err}
	}
	return nil
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
	text := e.name + ": " + strings.TrimSuffix(strings.TrimSpace(strings.Join(lines, " ")), ".")
	if strings.Contains(e.said, "Message too long") {
		text += "; that is more than a process without CAP_NET_ADMIN in the initial user namespace may send at once: raise the sysctl net.core.wmem_max there"
	}
	return text
}

// Unwrap gives the error, and what it means, where the words say so: exit codes
// do not.
func (e *programError) Unwrap() []error {
	for words, means := range map[string]error{
		"Permission denied":                        fs.ErrPermission,
		"Operation not permitted":                  fs.ErrPermission,
		"you must be root":                         fs.ErrPermission,
		"generation id: Invalid argument":          backend.ErrNotSupported, // no nf_tables
		"initialize nft: Protocol not supported":   backend.ErrNotSupported,
		"Address family not supported by protocol": backend.ErrNotSupported,
		"do you need to insmod":                    backend.ErrNotSupported, // no ip_tables
	} {
		if strings.Contains(e.said, words) {
			return []error{e.err, means}
		}
	}
	return []error{e.err}
}

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

// restore gives files of a family to iptables-restore. Somebody else may hold
// the lock of xtables: then it says so, and waits. The lock is taken for each table
// anew: once one may be committed, there is no second try.
func (b *Backend) restore(ctx context.Context, f *batch, test bool) error {
	p, ok := b.programs[f.family]
	if !ok {
		return fmt.Errorf("the policy has rules for IPv6; ip6tables: %w%w", backend.ErrNoProgram, notSupported{})
	}
	args := []string{"--noflush", "--counters"}
	if test {
		args = append(args, "--test")
	}
	s := streams{in: f.text()}
	if b.variant == nftVariant && f.family == ruleset.IPv6 {
		s.in = carried(s.in)
	}
	if b.Lock != nil && !test {
		s.open = b.Lock()
	}
	args = append(args, "--wait")
	var err error
	if test || len(f.files) == 1 {
		err = b.run(ctx, s, p.restore, append(args, "1")...)
	}
	if locked(err) && b.Waiting != nil {
		b.Waiting("another program holds the lock of xtables")
	}
	if !test && len(f.files) > 1 || locked(err) {
		err = b.run(ctx, s, p.restore, args...)
	}
	if err != nil {
		err = b.lacking(f.family, err)
	}
	return f.refused(err)
}

// refused names the entry of the line that a program did not take.
func (f *batch) refused(err error) error {
	var e *programError
	if !errors.As(err, &e) {
		return err
	}
	at := e.line() - 1
	if name := e.extension(); name != "" {
		for _, x := range f.files {
			for i := range x.lines {
				if l := &x.lines[i]; l.uses(name) {
					return &backend.Refused{Object: x.object(l), Origin: l.origin, Err: err}
				}
			}
		}
	}
	for _, x := range f.files {
		// The first line is the table's, the last one its commit.
		if at >= 0 && at < len(x.lines)+2 || len(f.files) == 1 {
			r := &backend.Refused{Object: fmt.Sprintf("the table %s (%s)", x.table, familyName(f.family)), Err: err}
			if i := at - 1; i >= 0 && i < len(x.lines) {
				r.Object, r.Origin = x.object(&x.lines[i]), x.lines[i].origin
			}
			return r
		}
		at -= len(x.lines) + 2
	}
	return &backend.Refused{Object: "the tables of " + familyName(f.family), Err: err}
}

func (f *file) object(l *fileLine) string {
	return fmt.Sprintf("%q in table %s (%s)", l.text(), f.table, familyName(f.family))
}

func familyName(f ruleset.Family) string {
	if f == ruleset.IPv6 {
		return "IPv6"
	}
	return "IPv4"
}
