//go:build linux && !386 && !arm && !mips && !mipsle

package nftables_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	google "github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/ipmasq/ipmasq/pkg/backend/backendtest"
	"github.com/ipmasq/ipmasq/pkg/backend/nftables"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"github.com/ipmasq/ipmasq/test/lab"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestExact finds each object in the kernel's dump byte for byte as it was
// sent, which is what comparing snapshots rests on.
func TestExact(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	rs := backendtest.Everything()
	want := h.want(t, rs)
	if err := h.Commit(context.Background(), plan.Diff(h.have(t), want), false); err != nil {
		t.Fatal(err)
	}
	have := h.have(t)
	names := map[string]bool{}
	for i, c := range want.Chains {
		if have.Chains[i].Attributes != c.Attributes {
			t.Errorf("chain %s\nsent %x\nheld %x", c.Name, c.Attributes, have.Chains[i].Attributes)
		}
		for j, r := range c.Rules {
			if got := have.Chains[i].Rules[j].Body; !bytes.Equal(got, r.Body) {
				t.Errorf("chain %s, rule %d\nsent %x\nheld %x", c.Name, j, r.Body, got)
			}
			for _, n := range []string{"meta", "payload", "ct", "fib", "cmp", "bitwise", "lookup", "objref", "immediate", "reject", "nat", "masq",
				"limit", "dynset", "connlimit", "log", "rt", "byteorder", "exthdr", "notrack", "redir", "numgen", "hash", "synproxy"} {
				if bytes.Contains(r.Body, []byte(n+"\x00")) {
					names[n] = true
				}
			}
		}
	}
	used := map[ruleset.Field]bool{}
	for _, c := range rs.Chains {
		for _, r := range c.Rules {
			for _, m := range r.Matches {
				for _, f := range m.Fields {
					used[f] = true
				}
			}
			for _, s := range r.Do {
				for _, f := range s.Fields {
					used[f] = true
				}
			}
		}
	}
	for f := ruleset.Field(0); f.Type() != ruleset.TypeNone; f++ {
		if !used[f] {
			t.Errorf("field %d is not tested", f)
		}
	}
	if len(names) != 24 {
		t.Errorf("only %v are tested", names)
	}
	for i, o := range want.Objects {
		if got := have.Objects[i]; got.Attributes != o.Attributes || got.Origin.Entry != o.Origin.Entry {
			t.Errorf("%s of %q\nsent %x\nheld %x of %q", &o, o.Origin.Entry, o.Attributes, got.Attributes, got.Origin.Entry)
		}
	}
	for i, s := range want.Sets {
		if have.Sets[i].Attributes != s.Attributes {
			t.Errorf("set %s\nsent %x\nheld %x", s.Name, s.Attributes, have.Sets[i].Attributes)
		}
		for j := range s.Elements.Len() {
			if a, b := s.Elements.At(j), have.Sets[i].Elements.At(j); !bytes.Equal(a, b) {
				t.Errorf("set %s, element %d\nsent %x\nheld %x", s.Name, j, a, b)
			}
		}
	}
}

// TestText has nft(8) load what Text writes: the kernel then holds what Commit
// makes, lists it alike, and what nft lists can be loaded again.
func TestText(t *testing.T) {
	t.Parallel()
	rs := backendtest.Everything()
	var text strings.Builder
	if err := nftables.Text(&text, rs); err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "everything.nft")
	if *update {
		if err := os.WriteFile(golden, []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	file, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if string(file) != text.String() {
		t.Errorf("differs from %s; look at what -update changes", golden)
	}

	h, other := newHost(t), newHost(t)
	lab.Require(t, lab.Binary("nft"))
	want := h.want(t, rs)
	h.reach(t, want)
	other.load(t, text.String())
	if c := plan.Diff(other.have(t), want); !c.Empty() {
		t.Errorf("nft(8) makes another table of Text than Commit: %s: %+v %+v %+v", c.Summary(), c.Chains, c.Sets, c.Counters)
	}
	ours, theirs := h.nft(t, "list", "table", "inet", "ipmasq"), other.nft(t, "list", "table", "inet", "ipmasq")
	if sorted(ours) != sorted(theirs) {
		t.Errorf("nft lists what we committed as\n%s\nand what it loaded as\n%s", ours, theirs)
	}
	// Twice: over a table that is there.
	other.load(t, text.String())
	if c := plan.Diff(other.have(t), want); !c.Empty() {
		t.Errorf("loaded twice: %s", c.Summary())
	}
	other.load(t, "delete table inet ipmasq\n"+ours)
	if c := plan.Diff(other.have(t), want); !c.Empty() {
		t.Errorf("what nft lists makes another table: %s: %+v %+v %+v", c.Summary(), c.Chains, c.Sets, c.Counters)
	}
	// What nft made can be changed by element and gone back to.
	before := other.have(t)
	other.reach(t, other.want(t, mutation(0)))
	other.reach(t, before)
	if err := nftables.Text(&text, &ruleset.Ruleset{}); err != nil {
		t.Fatal(err)
	}
	other.load(t, text.String())
	if !other.have(t).Empty() {
		t.Error("an empty ruleset leaves something")
	}
}

// TestDescribe finds each part of a description in the text.
func TestDescribe(t *testing.T) {
	t.Parallel()
	rs := backendtest.Everything()
	var b strings.Builder
	if err := nftables.Text(&b, rs); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	d := nftables.Describe(rs)
	if len(d.Chains) != len(rs.Chains) || len(d.Sets) != len(rs.Sets) || len(d.Counters) != len(rs.Counters) {
		t.Fatalf("%d chains, %d sets, %d counters", len(d.Chains), len(d.Sets), len(d.Counters))
	}
	for i, c := range d.Chains {
		for j, r := range c.Rules {
			if o := rs.Chains[i].Rules[j].Origin; !strings.Contains(text, "\t\t"+r.Text+"\n") || r.Entry != o.Entry || r.Place != o.Place.String() {
				t.Errorf("chain %s, rule %d: %+v", c.Name, j, r)
			}
		}
	}
	if want := len(rs.Helpers) + len(rs.Timeouts); len(d.Objects) != want {
		t.Errorf("%d objects, want %d", len(d.Objects), want)
	}
	for _, o := range d.Objects {
		if !strings.Contains(text, "\t"+o.Kind+" "+o.Name+" {\n") || !strings.Contains(text, "\t"+o.Text+"\n") || o.Entry == "" || o.Place == "" {
			t.Errorf("%+v", o)
		}
	}
	for i, s := range d.Sets {
		if len(s.Elements) != rs.Sets[i].Len() {
			t.Errorf("set %s: %d elements", s.Name, len(s.Elements))
		}
		for _, e := range s.Elements {
			if !strings.Contains(text, e.Text) || e.Entry == "" && e.Place != "" {
				t.Errorf("set %s: %+v", s.Name, e)
			}
		}
	}
}

// TestGoogle reads our table with somebody else's reader.
func TestGoogle(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	rs := backendtest.Everything()
	h.reach(t, h.want(t, rs))
	err := h.host.Do(func() error {
		c, err := google.New(google.AsLasting())
		if err != nil {
			return err
		}
		defer c.CloseLasting()
		if err := compareChains(t, c, rs); err != nil {
			return err
		}
		return compareSets(t, c, rs)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func compareChains(t *testing.T, c *google.Conn, rs *ruleset.Ruleset) error {
	chains, err := c.ListChainsOfTableFamily(google.TableFamilyINet)
	if err != nil {
		return err
	}
	byName := map[string]*google.Chain{}
	for _, x := range chains {
		byName[x.Name] = x
	}
	for _, want := range rs.Chains {
		got := byName[want.Name]
		if got == nil {
			t.Errorf("no chain %s", want.Name)
			continue
		}
		if (got.Hooknum != nil) != (want.Hook != nil) {
			t.Errorf("chain %s: attached: %v", want.Name, got.Hooknum != nil)
		}
		if h := want.Hook; h != nil && (uint32(*got.Hooknum) != uint32(h.Point) || int(*got.Priority) != h.Priority ||
			string(got.Type) != string(h.Type) || *got.Policy != google.ChainPolicyAccept) {
			t.Errorf("chain %s: %+v", want.Name, got)
		}
		rules, err := c.GetRules(got.Table, got)
		if err != nil {
			return err
		}
		if len(rules) != len(want.Rules) {
			t.Errorf("chain %s: %d rules, want %d", want.Name, len(rules), len(want.Rules))
			continue
		}
		for i, r := range rules {
			if !bytes.Contains(r.UserData, []byte(want.Rules[i].Origin.Entry)) {
				t.Errorf("chain %s, rule %d: comment %q", want.Name, i, r.UserData)
			}
			last := r.Exprs[len(r.Exprs)-1]
			switch a, do := want.Rules[i].Action, want.Rules[i].Do; {
			case a.Kind == ruleset.Continue && len(do) > 0 && want.Rules[i].Counter == "":
				if !does(last, do[len(do)-1]) {
					t.Errorf("chain %s, rule %d: ends in %#v, want %+v", want.Name, i, last, do)
				}
			case !lastIs(r.Exprs, a):
				t.Errorf("chain %s, rule %d: ends in %T, want action %d", want.Name, i, last, a.Kind)
			}
		}
	}
	return nil
}

// does says whether an expression is what a statement ends in.
func does(x expr.Any, do ruleset.Statement) bool {
	switch x := x.(type) {
	case *expr.Meta:
		return x.Key == expr.MetaKeyMARK && x.SourceRegister && do.Kind == ruleset.SetMark
	case *expr.Ct:
		return x.Key == expr.CtKeyMARK && x.SourceRegister && do.Kind == ruleset.SetCtMark
	case *expr.Exthdr:
		return x.Op == expr.ExthdrOpTcpopt && x.SourceRegister == 1 && x.Type == 2 && do.Kind == ruleset.SetMaxSeg
	case *expr.Log:
		if do.Log.HasGroup {
			return do.Kind == ruleset.Log && x.Group == do.Log.Group && string(x.Data) == do.Log.Prefix
		}
		return do.Kind == ruleset.Log && uint32(x.Level) == do.Log.Level && string(x.Data) == do.Log.Prefix
	case *expr.Limit:
		return x.Rate == do.Rate.Packets && uint64(x.Unit) == do.Rate.Seconds && x.Burst == do.Rate.Burst && x.Over == (do.Kind == ruleset.RateOver)
	case *expr.Payload:
		return x.OperationType == expr.PayloadWrite && do.Kind == ruleset.SetAddress
	case *expr.Notrack:
		return do.Kind == ruleset.NoTrack
	case *expr.Objref:
		return x.Name == do.Object
	}
	return false
}

// lastIs says whether the last expression is the action.
func lastIs(exprs []expr.Any, a ruleset.Action) bool {
	verdicts := map[ruleset.ActionKind]expr.VerdictKind{
		ruleset.Accept: expr.VerdictAccept, ruleset.Drop: expr.VerdictDrop, ruleset.Return: expr.VerdictReturn,
		ruleset.Jump: expr.VerdictJump, ruleset.Goto: expr.VerdictGoto,
	}
	switch x := exprs[len(exprs)-1].(type) {
	case *expr.Verdict:
		kind, ok := verdicts[a.Kind]
		return ok && x.Kind == kind && x.Chain == a.Chain
	case *expr.Lookup:
		return a.Kind == ruleset.VerdictMap && x.SetName == a.Map && x.IsDestRegSet && x.DestRegister == 0
	case *expr.Reject:
		return a.Kind == ruleset.Reject
	case *expr.NAT:
		return x.Type == expr.NATTypeDestNAT && a.Kind == ruleset.DNAT ||
			x.Type == expr.NATTypeSourceNAT && (a.Kind == ruleset.SNATToDest || a.Kind == ruleset.SNAT)
	case *expr.Redir:
		return a.Kind == ruleset.Redirect && (x.RegisterProtoMin != 0) == (a.NAT.PortMin != 0)
	case *expr.SynProxy:
		return a.Kind == ruleset.Synproxy && x.Mss == a.Syn.MSS && x.Wscale == a.Syn.WindowScale && x.Timestamp == a.Syn.Timestamp && x.SackPerm == a.Syn.SACK
	case *expr.Masq:
		return a.Kind == ruleset.Masquerade && x.Random == a.NAT.Random && x.FullyRandom == a.NAT.FullyRandom && x.ToPorts == (a.NAT.PortMin != 0)
	case *expr.Objref, *expr.Counter:
		return a.Kind == ruleset.Continue
	}
	return false
}

func compareSets(t *testing.T, c *google.Conn, rs *ruleset.Ruleset) error {
	table := &google.Table{Name: nftables.Table, Family: google.TableFamilyINet}
	for _, want := range rs.Sets {
		got, err := c.GetSetByName(table, want.Name)
		if err != nil {
			return fmt.Errorf("set %s: %w", want.Name, err)
		}
		if got.IsMap != (want.Data != nil) || got.Interval != want.Interval || got.Concatenation != (want.Interval && len(want.Key) > 1) ||
			got.KeyType.Bytes != uint32(want.KeyLen()) {
			t.Errorf("set %s: %+v", want.Name, got)
		}
		elements, err := c.GetSetElements(got)
		if err != nil {
			return fmt.Errorf("elements of %s: %w", want.Name, err)
		}
		hostOrder := (want.Key[0] == ruleset.Mark || want.Key[0] == ruleset.Number) && binary.NativeEndian.Uint16([]byte{1, 0}) == 1
		keys := map[string]bool{}
		for _, e := range elements {
			if !e.IntervalEnd {
				key := slices.Clone(e.Key)
				if hostOrder {
					slices.Reverse(key)
				}
				keys[string(key)] = true
			}
		}
		for i := range want.Len() {
			if !keys[string(want.KeyAt(i))] {
				t.Errorf("set %s has no element %x", want.Name, want.KeyAt(i))
			}
		}
		if len(keys) != want.Len() {
			t.Errorf("set %s has %d elements, want %d", want.Name, len(keys), want.Len())
		}
	}
	return nil
}

// mutation is everything with other elements, for a change by element.
func mutation(seed byte) *ruleset.Ruleset {
	rs := backendtest.Everything()
	for _, s := range rs.Sets {
		switch s.Name {
		case "nets":
			low := netip.MustParseAddr("0.0.0.0").AsSlice()
			s.Add(low, []byte{1, 0, 0, seed}, nil, ruleset.NoOrigin)
		case "keep4":
			s.Add([]byte{0, 0}, []byte{0, 5}, []byte{10, 0, 0, seed}, ruleset.NoOrigin)
		case "protocols":
			s.Add([]byte{200}, nil, nil, ruleset.NoOrigin)
		}
	}
	return rs
}
