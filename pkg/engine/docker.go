package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/foreign"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"github.com/ipmasq/ipmasq/pkg/state"
)

// UserChains are the chains DOCKER-USER, which Docker asks first and leaves to
// users. Rules are as iptables-save prints them, and only those that are ours.
type UserChains interface {
	Want(*ruleset.Docker, ruleset.Family) []string
	Have(context.Context, ruleset.UserChain) ([]string, error)
	// Commit is backend.ErrStale where a chain is not what was read.
	Commit(ctx context.Context, c ruleset.UserChain, remove, add []string, dryRun bool) error
}

// Docker is what changes in the chains that Docker leaves to users. It comes behind
// our own rules on the way up, and what goes, before them: what Docker lets pass,
// they have judged.
type Docker []DockerChange

// DockerChange are the rules of one chain that come and go.
type DockerChange struct {
	Chain       ruleset.UserChain
	Remove, Add []string
}

// Empty says whether nothing changes.
func (d Docker) Empty() bool { return len(d) == 0 }

// Added and Removed are the rules with the program that makes them, a line each.
func (d Docker) Added() []string { return d.lines(func(c DockerChange) []string { return c.Add }) }

// Removed are those that go.
func (d Docker) Removed() []string {
	return d.lines(func(c DockerChange) []string { return c.Remove })
}

func (d Docker) lines(of func(DockerChange) []string) (out []string) {
	for _, c := range d {
		for _, rule := range of(c) {
			out = append(out, UserChainName(c.Chain)+" "+rule)
		}
	}
	return out
}

// UserChainName is "ip6tables-nft DOCKER-USER".
func UserChainName(c ruleset.UserChain) string {
	name := c.Variant
	if c.Family == ruleset.IPv6 {
		name = "ip6" + strings.TrimPrefix(name, "ip")
	}
	return name + " " + userChain
}

const (
	userChain    = "DOCKER-USER"
	dockerTable  = "docker-bridges"      // of Docker's own nftables rules
	dockerBridge = "filter-forward-in__" // begins the chain of what goes to a bridge
	dockerOwner  = "ipmasq"              // the comment of our rules in DOCKER-USER
)

// DockerOf finds in the rules of others what a Docker on the host has made.
func DockerOf(rules *foreign.Rules) *compile.Docker {
	d := &compile.Docker{}
	if rules == nil {
		return d
	}
	for _, t := range rules.Tables {
		family := map[string]ruleset.Family{"ip": ruleset.IPv4, "ip6": ruleset.IPv6}[t.Family]
		switch {
		case family == 0:
		case t.Kind != foreign.NFT && t.Name == "filter" && t.Chain(userChain) != nil:
			d.Chains = append(d.Chains, ruleset.UserChain{Variant: string(t.Kind), Family: family})
		case t.Kind == foreign.NFT && t.Name == dockerTable:
			d.Tables = append(d.Tables, compile.DockerTable{Family: family, Drops: slices.ContainsFunc(t.Chains, func(c *foreign.Chain) bool { return c.Hook == foreign.Forward && c.Drops })})
			for _, c := range t.Chains {
				if bridge, ok := strings.CutPrefix(c.Name, dockerBridge); ok {
					value, mask := markOf(c)
					d.Marks = append(d.Marks, compile.DockerMark{Bridge: bridge, Family: family, Value: value, Mask: mask})
				}
			}
		}
	}
	slices.SortFunc(d.Chains, func(a, b ruleset.UserChain) int {
		return cmp.Or(cmp.Compare(a.Variant, b.Variant), cmp.Compare(a.Family, b.Family))
	})
	slices.SortFunc(d.Tables, func(a, b compile.DockerTable) int { return cmp.Compare(a.Family, b.Family) })
	slices.SortFunc(d.Marks, func(a, b compile.DockerMark) int {
		return cmp.Or(cmp.Compare(a.Bridge, b.Bridge), cmp.Compare(a.Family, b.Family))
	})
	return d
}

// markOf finds the mark with which a chain lets everything pass; the mask is 0
// where it knows none.
func markOf(c *foreign.Chain) (value, mask uint32) {
	for i := range c.Rules {
		r := &c.Rules[i]
		if r.Verdict != foreign.Accept || len(r.Tests) != 1 || r.Tests[0].Field != foreign.Mark || r.Tests[0].Not {
			continue
		}
		if value, mask, ok := r.Tests[0].Masked(); ok {
			return value, mask
		}
	}
	return 0, 0
}

// dockerSeen is what was seen of Docker: another one means that something is to be
// done, perhaps.
func dockerSeen(rules *foreign.Rules) string {
	var text strings.Builder
	fmt.Fprintln(&text, *DockerOf(rules))
	for _, t := range rules.Tables {
		if c := t.Chain(userChain); c != nil && t.Kind != foreign.NFT {
			for i := range c.Rules {
				if r := c.Rules[i]; r.Comment == dockerOwner {
					r.Counted = false
					fmt.Fprintln(&text, t.Kind, t.Family, r.String())
				}
			}
		}
	}
	return text.String()
}

func (e *Engine) others() (rules *foreign.Rules, err error) {
	err = e.NetNS.Do(func() (err error) {
		rules, err = foreign.Read()
		return err
	})
	return rules, err
}

// withDocker adds to facts what a policy needs to know of Docker. Where nothing can
// be read of others there is none, as far as is known.
func (e *Engine) withDocker(p *policy.Policy, f *hostFacts) (warnings []string) {
	if !p.Gateway.Docker {
		return nil
	}
	rules, err := e.others()
	if err != nil {
		warnings = append(warnings, fmt.Sprintf("what Docker has made cannot be read, and `docker: accept` does nothing now: %v", err))
	}
	f.docker = DockerOf(rules)
	return warnings
}

// dockerChanges compares the chains that Docker leaves to users with what a policy
// wants there.
func (e *Engine) dockerChanges(ctx context.Context, p *policy.Policy, want *ruleset.Docker, f hostFacts, remembered *state.State) (Docker, error) {
	if e.UserChains == nil {
		return nil, nil
	}
	var chains []ruleset.UserChain
	switch {
	case p != nil && p.Gateway.Docker:
		chains = f.docker.Chains
	case remembered.Docker || remembered.Applied == nil:
		// What of ours may be there, for all that is known.
		var rules *foreign.Rules
		err := e.NetNS.Do(func() (err error) {
			rules, err = foreign.Chains()
			return err
		})
		if err != nil && remembered.Docker {
			return nil, err
		}
		chains, want = DockerOf(rules).Chains, nil
	}
	var out Docker
	for _, c := range chains {
		var rules []string
		if c.Variant != e.heldVariant() {
			rules = e.UserChains.Want(want, c.Family)
		}
		have, err := e.UserChains.Have(ctx, c)
		if errors.Is(err, backend.ErrNotSupported) && len(rules) == 0 && !remembered.Docker {
			continue // it is not ours that is there
		}
		if err != nil {
			return nil, err
		}
		change := DockerChange{Chain: c, Remove: without(have, rules), Add: without(rules, have)}
		if len(change.Remove)+len(change.Add) > 0 {
			out = append(out, change)
		}
	}
	return out, nil
}

// heldVariant is the variant of iptables that the backend is, or "". Its own rules
// are in the tables of Docker's then, and lead there from DOCKER-USER.
func (e *Engine) heldVariant() string {
	if name := e.Backend.Name(); name != "nftables" {
		return name
	}
	return ""
}

// without gives what of a list is not in another one, as often as that has it.
func without(list, other []string) (out []string) {
	left := map[string]int{}
	for _, x := range other {
		left[x]++
	}
	for _, x := range list {
		if left[x]--; left[x] < 0 {
			out = append(out, x)
		}
	}
	return out
}

// planDocker plans what Docker is to let pass.
func (e *Engine) planDocker(ctx context.Context, pl *Plan, want *ruleset.Docker, remembered *state.State) (err error) {
	if pl.Docker, err = e.dockerChanges(ctx, pl.Policy, want, pl.facts, remembered); err != nil {
		return fmt.Errorf("gateway.docker: %w", err)
	}
	if d := pl.facts.docker; d != nil && len(d.Chains)+len(d.Tables) == 0 {
		pl.Hints = append(pl.Hints, "there is no Docker on this host, so `docker: accept` does nothing yet: ipmasq run carries it out when Docker comes, else the next apply")
	}
	return nil
}

// take removes what is to go.
func (d Docker) take(ctx context.Context, u UserChains) error {
	for _, c := range d {
		if len(c.Remove) > 0 {
			if err := u.Commit(ctx, c.Chain, c.Remove, nil, false); err != nil {
				return fmt.Errorf("take our rules out of %s: %w", UserChainName(c.Chain), err)
			}
		}
	}
	return nil
}

// put adds what is to come.
func (d Docker) put(ctx context.Context, u UserChains) error {
	for _, c := range d {
		if len(c.Add) > 0 {
			if err := u.Commit(ctx, c.Chain, nil, c.Add, false); err != nil {
				return fmt.Errorf("put our rules into %s: %w", UserChainName(c.Chain), err)
			}
		}
	}
	return nil
}

// check has iptables look at all of it, and changes nothing.
func (d Docker) check(ctx context.Context, u UserChains) error {
	for _, c := range d {
		if err := u.Commit(ctx, c.Chain, c.Remove, c.Add, true); err != nil {
			return fmt.Errorf("gateway.docker: %w", err)
		}
	}
	return nil
}

// commits is how many transactions of nf_tables the change takes.
func (d Docker) commits(n func(DockerChange) bool) (count uint32) {
	for _, c := range d {
		if c.Chain.Variant == string(foreign.XTNFT) && n(c) {
			count++
		}
	}
	return count
}

// takeDocker removes what a plan is to remove. The plan was made from what others
// have committed too, so it is made again where that was done by us, and then is
// tied to the generation that follows.
func (e *Engine) takeDocker(ctx context.Context, pl *Plan) error {
	defer e.step("docker off")()
	if err := pl.Docker.take(ctx, e.UserChains); err != nil {
		return err
	}
	return e.follow(ctx, pl.Rules, pl.Docker)
}

// follow ties changes to the generation that our own rules in Docker's chains have
// made, where nobody else has committed meanwhile.
func (e *Engine) follow(ctx context.Context, changes *plan.Changes, d Docker) error {
	n := d.commits(func(c DockerChange) bool { return len(c.Remove) > 0 })
	if held := e.heldVariant(); held != "" {
		if !slices.ContainsFunc(d, func(c DockerChange) bool { return c.Chain.Variant == held }) {
			return nil
		}
		have, err := e.Backend.Have(ctx) // it counts no generations
		if err == nil && plan.Diff(have, changes.From).Empty() {
			changes.From.Generation = have.Generation
		}
		return err
	}
	if n == 0 || changes.From.Generation == 0 {
		return nil
	}
	now, err := e.Backend.Probe(ctx)
	if err == nil && now == changes.From.Generation+n {
		changes.From.Generation = now
	}
	return err
}

// leaveDocker takes all of ours out of Docker's chains.
func (e *Engine) leaveDocker(ctx context.Context, d *Deletion, remembered *state.State) error {
	defer e.step("docker off")()
	err := d.Docker.take(ctx, e.UserChains)
	for range staleAttempts - 1 {
		if !errors.Is(err, backend.ErrStale) {
			break
		}
		if d.Docker, err = e.dockerChanges(ctx, nil, nil, hostFacts{}, remembered); err == nil {
			err = d.Docker.take(ctx, e.UserChains)
		}
	}
	if err != nil {
		return err
	}
	return e.follow(ctx, d.Rules, d.Docker)
}

// undoDocker makes the chains what they were, whatever of the change was made.
func (e *Engine) undoDocker(ctx context.Context, d Docker, why error) error {
	ctx = context.WithoutCancel(ctx)
	for _, c := range d {
		have, err := e.UserChains.Have(ctx, c.Chain)
		if err == nil {
			back := DockerChange{Remove: common(c.Add, have), Add: without(c.Remove, have)}
			err = e.UserChains.Commit(ctx, c.Chain, back.Remove, back.Add, false)
		}
		if err != nil && !errors.Is(err, backend.ErrStale) { // there is nothing to put back in a chain that is gone
			return fmt.Errorf("%w; and %s could not be put back: %w", why, UserChainName(c.Chain), err)
		}
	}
	return why
}

func common(list, other []string) []string { return without(list, without(list, other)) }

// putDocker adds what Docker is to let pass, behind our own rules, and remembers
// what was seen then. It gives the generation, which is that of the rules still
// where nobody else has committed meanwhile.
func (e *Engine) putDocker(ctx context.Context, pl *Plan, generation uint32) (uint32, error) {
	defer e.step("docker")()
	if err := pl.Docker.put(ctx, e.UserChains); err != nil {
		return generation, err
	}
	if n := pl.Docker.commits(func(c DockerChange) bool { return len(c.Add) > 0 }); n > 0 && generation != 0 && e.heldVariant() == "" {
		if now, err := e.Backend.Probe(ctx); err == nil && now == generation+n {
			return now, nil
		}
	}
	return generation, nil
}

// seeDocker remembers what is there of Docker, for whoever holds the policy. What
// Docker has made since the plan was made is not in it, and is a change.
func (e *Engine) seeDocker(pl *Plan) {
	if !pl.Policy.Gateway.Docker {
		return
	}
	if rules, err := e.others(); err == nil && pl.facts.docker != nil && fmt.Sprint(*DockerOf(rules)) == fmt.Sprint(*pl.facts.docker) {
		pl.docked = dockerSeen(rules)
	}
}

// DockerChanged says whether Docker, or somebody else, has changed what the policy
// in force depends on: Docker came, or made its chains anew, or our rules are gone
// from them. Of a policy that leaves Docker alone it is false.
func (e *Engine) DockerChanged(held *Held) (bool, error) {
	if !held.plan.Policy.Gateway.Docker {
		return false, nil
	}
	rules, err := e.others()
	if err != nil {
		return false, err
	}
	return dockerSeen(rules) != held.plan.docked, nil
}
