package plan

import (
	"bytes"
	"fmt"
	"reflect"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// full is a snapshot with all that there can be.
func full() *Snapshot {
	s := &Snapshot{
		Generation: 7,
		Chains:     []Chain{chain("a", "hook", "e:x", "f:y"), chain("b", "")},
		Counters:   []Counter{{Name: "n", Origin: at("e", 5), Packets: 3}},
	}
	s.Chains[0].Rules[0].Origin = at("e", 4)
	set(s, "s", "x", "aa1", "e:bb22", "e:cc", "f:dd4")
	set(s, "t", "y", "aa", "e:bb", "e:cc", "f:dd")
	set(s, "u", "")
	for i := range s.Origins {
		s.Origins[i].Place = at("", i+1).Place
	}
	s.Sets[0].Elements.Count(Count{Packets: 9})
	s.Normalize()
	return s
}

func storedText(t testing.TB, s *Snapshot) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := s.Store(&out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestStore(t *testing.T) {
	t.Parallel()
	s := full()
	got, err := LoadStored(storedText(t, s))
	if err != nil {
		t.Fatal(err)
	}
	if c := Diff(got, s); !c.Empty() || got.Digest() != s.Digest() {
		t.Errorf("what was loaded differs: %+v", c)
	}
	// As from a kernel: no places, and an entry once.
	if want := []ruleset.Origin{{Entry: "e"}, {Entry: "f"}, {Entry: "e"}, {Entry: "f"}}; !reflect.DeepEqual(got.Origins, want) {
		t.Errorf("origins are %v, want %v", got.Origins, want)
	}
	if o := got.Chains[0].Rules[0].Origin; o != (ruleset.Origin{Entry: "e"}) {
		t.Errorf("a rule's origin is %v", o)
	}
	if c := got.Counters[0]; c != (Counter{Name: "n", Origin: ruleset.Origin{Entry: "e"}}) {
		t.Errorf("a counter is %v", c)
	}
	if o := s.Chains[0].Rules[0].Origin; o != at("e", 4) {
		t.Errorf("storing has changed an origin to %v", o)
	}
	// What goes is told by its entry, as if it had been read.
	left := &Snapshot{}
	var signs string
	for _, e := range Diff(got, left).Entries() {
		signs += fmt.Sprintf("%c%s ", e.Sign, e.Entry)
	}
	if want := "-e -f -set s -set t "; signs != want {
		t.Errorf("entries that go: %q, want %q", signs, want)
	}
}

// A file that was cut off, or that somebody has edited, is no snapshot or one of
// another digest, and nothing to trip over.
func TestLoadStoredDamaged(t *testing.T) {
	t.Parallel()
	s := full()
	text, digest := storedText(t, s), s.Digest()
	for n := range text {
		if got, err := LoadStored(text[:n]); err == nil {
			t.Fatalf("the first %d of %d bytes are a snapshot: %+v", n, len(text), got)
		}
		for _, bit := range []byte{1, 0x80} {
			bad := bytes.Clone(text)
			bad[n] ^= bit
			if got, err := LoadStored(bad); err == nil && got.Digest() == digest && !Diff(got, s).Empty() {
				t.Fatalf("byte %d changed: another snapshot with the same digest", n)
			}
		}
	}
}

func FuzzLoadStored(f *testing.F) {
	f.Add(storedText(f, full()))
	f.Fuzz(func(t *testing.T, text []byte) {
		if s, err := LoadStored(text); err == nil {
			s.Digest()
			Diff(s, full()).Entries()
		}
	})
}
