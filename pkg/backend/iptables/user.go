package iptables

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// userChain is the chain that Docker leaves to users, in the table filter.
const userChain = "DOCKER-USER"

// errUserChain is a chain DOCKER-USER that is not there any more.
var errUserChain = fmt.Errorf("the chain %s is gone: %w", userChain, backend.ErrStale)

// UserChains are the chains DOCKER-USER of a network namespace, for backends whose
// own rules are elsewhere: ours there are told by their comment, "ipmasq". Other
// rules are not touched.
type UserChains struct {
	// Waiting is told why a commit waits, if it does. Nil is allowed.
	Waiting func(why string)
	// Lock is that of a [Backend]. Nil is allowed.
	Lock func() *os.File

	enter func(func() error) error
}

// NewUserChains gives those of the namespace in which enter runs a function.
func NewUserChains(enter func(func() error) error) *UserChains { return &UserChains{enter: enter} }

// Want are the rules that let pass what may pass, in one family, in the form in
// which Have reads them.
func (*UserChains) Want(d *ruleset.Docker, f ruleset.Family) (rules []string) {
	if d == nil {
		return nil
	}
	for _, p := range d.Passing {
		if p.Family == f {
			rules = append(rules, passingText(p))
		}
	}
	return rules
}

// Have are our rules in a chain. It is no error that the chain is not there.
func (u *UserChains) Have(ctx context.Context, c ruleset.UserChain) ([]string, error) {
	b, err := u.backend(c.Variant)
	if err != nil {
		return nil, err
	}
	rules, _, err := b.userRules(ctx, c.Family)
	return rules, err
}

// Commit takes rules out of a chain, and puts others in front of what is there, in
// one transaction. It is [backend.ErrStale] where the chain is other than it was
// read. Whoever holds the lock of xtables is waited for.
func (u *UserChains) Commit(ctx context.Context, c ruleset.UserChain, remove, add []string, dryRun bool) error {
	b, err := u.backend(c.Variant)
	if err != nil {
		return err
	}
	f := &file{family: c.Family, table: "filter"}
	o := ruleset.Origin{Entry: "docker"}
	for _, r := range remove {
		f.lines = append(f.lines, fileLine{head: "-D " + userChain + " " + r, origin: o})
	}
	for i, r := range add {
		f.lines = append(f.lines, fileLine{head: fmt.Sprintf("-I %s %d %s", userChain, i+1, r), origin: o})
	}
	if len(f.lines) == 0 {
		return nil
	}
	failed := b.restore(ctx, &batch{f.family, []*file{f}}, dryRun)
	if failed == nil {
		return nil
	}
	now, there, err := b.userRules(ctx, c.Family)
	switch {
	case err != nil:
		return failed
	case !there:
		return errUserChain
	case slices.ContainsFunc(remove, func(r string) bool { return !slices.Contains(now, r) }):
		return fmt.Errorf("%w (the chain %s)", backend.ErrStale, userChain)
	}
	return failed
}

// backend finds the programs of a variant.
func (u *UserChains) backend(variant string) (*Backend, error) {
	b, err := New(u.enter, variant)
	if err != nil {
		return nil, fmt.Errorf("%s of %s: %w", userChain, variant, err)
	}
	b.Waiting, b.Lock = u.Waiting, u.Lock
	return b, nil
}

// userRules reads our rules in DOCKER-USER, and whether it is there.
func (b *Backend) userRules(ctx context.Context, f ruleset.Family) (rules []string, there bool, err error) {
	p, ok := b.programs[f]
	if !ok {
		return nil, false, fmt.Errorf("%s of %s: there is no ip6tables: %w", userChain, familyName(f), backend.ErrNotSupported)
	}
	var text []byte
	err = b.run(ctx, streams{out: func(r io.Reader) (err error) {
		text, err = io.ReadAll(r)
		return err
	}}, p.save, "-t", "filter")
	if err != nil {
		return nil, false, fmt.Errorf("read %s: %w", userChain, err)
	}
	for l := range strings.Lines(string(text)) {
		l = strings.TrimSpace(l)
		there = there || strings.HasPrefix(l, ":"+userChain+" ")
		if rule, ok := strings.CutPrefix(l, "-A "+userChain+" "); ok && commentOf(rule) == "ipmasq" && targetOf(rule) == "ACCEPT" {
			rules = append(rules, rule)
		}
	}
	return rules, there, nil
}

// passingText is a rule as iptables-save prints it, behind the name of its chain.
func passingText(p ruleset.Passing) string {
	var words []string
	for _, o := range []struct {
		option  string
		address netip.Prefix
	}{{"-s", p.From}, {"-d", p.To}} {
		if o.address.IsValid() {
			words = append(words, o.option+" "+o.address.String())
		}
	}
	for _, o := range [][2]string{{"-i", p.In}, {"-o", p.Out}} {
		if name, wildcard := strings.CutSuffix(o[1], "*"); wildcard {
			words = append(words, o[0]+" "+name+"+")
		} else if name != "" {
			words = append(words, o[0]+" "+name)
		}
	}
	if p.Answers {
		words = append(words, "-m conntrack --ctstate RELATED,ESTABLISHED")
	}
	return strings.Join(append(words, "-m comment --comment ipmasq", "-j ACCEPT"), " ")
}

// leadFromUsers has the chains DOCKER-USER of this variant lead to our chain: where
// Docker's jumps have come to stand before ours, as when Docker starts, ours judges
// first all the same. There is nothing wider, since what is accepted there is
// accepted, and seen by none of ours.
func (b *Backend) leadFromUsers(s *plan.Snapshot, d *ruleset.Docker) {
	if d == nil {
		return
	}
	to := chainName("forward", plain)
	for _, c := range d.Chains {
		key := chainKey(c.Family, "filter", to)
		if c.Variant != b.variant || !slices.ContainsFunc(s.Chains, func(x plan.Chain) bool { return x.Name == key }) {
			continue
		}
		o := ruleset.Origin{Entry: "ipmasq"}
		s.Chains = append(s.Chains, plan.Chain{
			Name: chainKey(c.Family, "filter", userChain), Origin: o, Rules: []plan.Rule{{Body: jumpBody(1, jumpTo(to)), Origin: o}},
		})
	}
	s.Normalize()
}
