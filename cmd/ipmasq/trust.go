package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/urfave/cli/v2"
)

// Whoever can write a policy decides what the gateway lets pass. So root does
// not apply one that somebody else can write: the file, a set or map file that
// it names, a link on the way, or a folder that one of them is in.

// untrusted is a policy that somebody else can write.
type untrusted struct {
	file   string // as it was named
	object string // what can be written: the file, or what it is found by
	why    string
	mend   string // a command, or ""
}

func (u *untrusted) Error() string {
	if u.object == u.file {
		return fmt.Sprintf("policy %s: %s, and root would do what they say", u.file, u.why)
	}
	return fmt.Sprintf("policy %s: %s: %s, and root would do what they say", u.file, u.object, u.why)
}

func (u *untrusted) hint() string {
	return fmt.Sprintf("%s mends that; --allow-writable-policy applies it all the same", u.mend)
}

func writableFlag() cli.Flag {
	return &cli.BoolFlag{Name: "allow-writable-policy", Usage: "as root, take a policy that others can write"}
}

// load reads the policy that the arguments name, for a command that acts by it.
func (p *program) load(c *cli.Context) (*policy.Policy, error) {
	pol, err := p.read(c)
	if pol == nil || c.Bool("allow-writable-policy") {
		return pol, err
	}
	// Before what is wrong in it: somebody else may have written that.
	if bad := p.untrusted(pol); bad != nil {
		return nil, bad
	}
	return pol, err
}

// loadToShow reads the policy that the arguments name, for a command that only
// looks at it.
func (p *program) loadToShow(c *cli.Context) (*policy.Policy, error) {
	pol, err := p.read(c)
	if pol != nil {
		if bad := p.untrusted(pol); bad != nil {
			p.warnf("policy %s: %s; apply will refuse it", bad.object, bad.why)
			p.hintf("%s mends that", bad.mend)
		}
	}
	return pol, err
}

// untrusted looks at all files that a policy was read from.
func (p *program) untrusted(pol *policy.Policy) *untrusted {
	if os.Geteuid() != 0 {
		return nil
	}
	t := newTrust(p.getenv("SUDO_UID"))
	for _, s := range pol.Sources {
		if given(s.Name) {
			continue
		}
		if bad := t.judge(s.Name); bad != nil {
			return bad
		}
	}
	return nil
}

// untrustedFile is untrusted for a single file.
func (p *program) untrustedFile(name string) *untrusted {
	return p.untrusted(&policy.Policy{Sources: []policy.Source{{Name: name}}})
}

// given says whether the caller has opened a source, and not ipmasq.
func given(name string) bool {
	if name == policy.StdinName {
		return true
	}
	name = filepath.Clean(name)
	for _, opened := range []string{"/dev/fd/", "/proc/self/fd/"} {
		if strings.HasPrefix(name, opened) {
			return true
		}
	}
	return name == "/dev/stdin"
}
