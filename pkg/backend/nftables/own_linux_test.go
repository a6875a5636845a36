//go:build linux

package nftables_test

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/backend/nftables"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/test/lab"
)

// owner is a second backend on the host, which owns the table.
func (h *host) owner(t *testing.T) *host {
	t.Helper()
	b := nftables.New(h.host.Do)
	if err := b.Keep(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	err := b.Own(t.Context())
	if errors.Is(err, backend.ErrNotSupported) {
		lab.Lacking(t, "%v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return &host{b, h.host}
}

// A table that is there is taken over with what it has counted, nobody else can
// change it or flush it away, and it is anybody's after its owner has gone.
func TestOwn(t *testing.T) {
	t.Parallel()
	lab.Require(t, lab.Binary("nft"))
	h := newHost(t)
	h.reach(t, h.want(t, loopback(10, "", false)))
	for range 3 {
		h.Send(t)
	}
	counted := h.have(t).Sets[0].Elements.CountAt(0)

	o := h.owner(t)
	if g, err := o.Probe(t.Context()); g != 0 || err != nil {
		t.Errorf("before it is taken over the generation is %d, %v", g, err)
	}
	if c := o.reach(t, o.want(t, loopback(10, "", false))); c.Empty() || !o.Owned() {
		t.Fatalf("it is not taken over: %d chains change", len(c.Chains))
	}
	if got := o.have(t).Sets[0].Elements.CountAt(0); got != counted || got.Packets != 3 {
		t.Errorf("what was counted was %+v and is %+v", counted, got)
	}
	if g, err := o.Probe(t.Context()); g == 0 || err != nil {
		t.Errorf("the generation is %d, %v", g, err)
	}
	before := h.have(t)
	h.load(t, "add table ip other")
	h.nft(t, "flush", "ruleset")
	if out := h.nft(t, "list", "ruleset"); strings.Contains(out, "other") || !strings.Contains(out, "table inet ipmasq") {
		t.Errorf("after a flush there is\n%s", out)
	}
	if _, err := h.run("", "delete", "table", "inet", "ipmasq"); err == nil {
		t.Error("another program deletes it")
	}
	if after := h.have(t); after.Digest() != before.Digest() {
		t.Error("it is not as before")
	}
	// Another process of ours is told why.
	other := h.want(t, loopback(5, "", false))
	if err := h.Commit(t.Context(), plan.Diff(h.have(t), other), false); !errors.Is(err, backend.ErrOwned) || errors.Is(err, os.ErrPermission) {
		t.Errorf("a commit of another: %v", err)
	}
	second := nftables.New(h.host.Do)
	if err := errors.Join(second.Keep(), second.Own(t.Context())); !errors.Is(err, backend.ErrOwned) {
		t.Errorf("a second owner: %v", err)
	}
	second.Close()
	// The owner changes it as ever.
	o.reach(t, o.want(t, loopback(20, "", false)))

	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	if got := h.have(t); got.Empty() {
		t.Fatal("it went with its owner")
	}
	h.reach(t, other)

	// What an owner left behind is taken over as it is.
	last := h.owner(t)
	if !last.Owned() {
		t.Error("it is not owned at once")
	}
	if c := last.reach(t, last.want(t, loopback(5, "", false))); !c.Empty() {
		t.Errorf("it is made anew: %d chains, %d sets", len(c.Chains), len(c.Sets))
	}
	h.nft(t, "flush", "ruleset")
	if h.have(t).Empty() {
		t.Error("a flush removes what was taken over")
	}
}

// A watch tells who changed what, and nothing of what its own side did while it
// paused.
func TestWatch(t *testing.T) {
	t.Parallel()
	lab.Require(t, lab.Binary("nft"))
	h := newHost(t)
	w, err := h.Watch()
	if err != nil {
		t.Fatal(err)
	}
	told := make(chan backend.Foreign, 100)
	go func() {
		defer close(told)
		for {
			f, err := w.Next()
			if err != nil {
				if !errors.Is(err, backend.ErrStopped) {
					t.Error(err)
				}
				return
			}
			told <- f
		}
	}()
	t.Cleanup(func() {
		w.Stop()
		for range told {
		}
		w.Close()
	})
	next := func() backend.Foreign {
		t.Helper()
		select {
		case f := <-told:
			return f
		case <-time.After(lab.Patience):
			t.Fatal("nothing is told")
			return backend.Foreign{}
		}
	}
	check := func(what string, ours, gone bool) {
		t.Helper()
		f := next()
		g, err := h.Probe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if f.Ours != ours || f.Gone != gone || f.Process != "nft" || f.PID == 0 || f.Generation != g {
			t.Errorf("%s: %+v, at generation %d", what, f, g)
		}
	}
	if err := w.Pause(); err != nil {
		t.Fatal(err)
	}
	h.reach(t, h.want(t, loopback(10, "", false)))
	if err := w.Resume(); err != nil {
		t.Fatal(err)
	}
	h.load(t, "add table inet other\nadd chain inet other c\nadd rule inet other c accept\nadd table ip ipmasq")
	check("another table", false, false)
	h.nft(t, "add", "rule", "inet", "ipmasq", "output", "accept")
	check("a rule", true, false)
	h.nft(t, "delete", "element", "inet", "ipmasq", "destinations", "{ 127.0.0.1 }")
	check("an element", true, false)
	h.nft(t, "flush", "ruleset")
	check("a flush", true, true)
	h.load(t, "add table inet ipmasq\ndelete table inet ipmasq\nadd table inet ipmasq")
	check("made again", true, false)
	h.nft(t, "delete", "table", "inet", "ipmasq")
	check("a deletion", true, true)

	// More than the buffer holds is not passed over.
	var many strings.Builder
	many.WriteString("add table inet other\nadd set inet other s { type ipv4_addr; }\n")
	for i := range 20 {
		many.WriteString("add element inet other s { ")
		for j := range 250 {
			if j > 0 {
				many.WriteString(", ")
			}
			many.WriteString("10.1." + strconv.Itoa(i) + "." + strconv.Itoa(j))
		}
		many.WriteString(" }\n")
	}
	h.load(t, many.String())
	f := next()
	if !f.Ours && f.Process != "nft" {
		t.Errorf("after many elements: %+v", f)
	}
}
