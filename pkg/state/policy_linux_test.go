package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestSaveAndLoadPolicy(t *testing.T) {
	for _, sources := range [][]Source{
		nil,
		{{Name: "policy.yaml", Text: []byte("zones: {}\n")}},
		{{Name: "b.yaml", Text: []byte("b")}, {Name: "a.yaml", Text: []byte{}}, {Name: "-", Text: []byte("\x00\xff")}},
	} {
		d := openDir(t)
		digest, err := d.SavePolicy(sources)
		must(t, err)
		if digest != Digest(sources) || len(digest) != 64 {
			t.Errorf("digest %q", digest)
		}
		got, err := d.LoadPolicy(digest)
		must(t, err)
		if len(got) != len(sources) || len(got) > 0 && !reflect.DeepEqual(got, sources) {
			t.Errorf("got %q, want %q", got, sources)
		}
	}
}

// Moving a byte from a name to a text, or between files, is another policy.
func TestDigestIsFramed(t *testing.T) {
	seen := map[string]int{}
	for i, sources := range [][]Source{
		{},
		{{Name: "", Text: nil}},
		{{Name: "ab", Text: []byte("c")}},
		{{Name: "a", Text: []byte("bc")}},
		{{Name: "a", Text: []byte("b")}, {Name: "c"}},
		{{Name: "c"}, {Name: "a", Text: []byte("b")}},
	} {
		digest := Digest(sources)
		if other, ok := seen[digest]; ok {
			t.Errorf("policies %d and %d have one digest", other, i)
		}
		seen[digest] = i
	}
	// A change here would orphan every stored policy.
	const want = "54af89c0dcbb1d70868d6d78bf6b94a9"
	if got := Digest([]Source{{Name: "policy.yaml", Text: []byte("zones: {}\n")}}); !strings.HasPrefix(got, want) {
		t.Errorf("digest %s, want %s...", got, want)
	}
}

func TestSavePolicyWritesOnce(t *testing.T) {
	d := openDir(t)
	digest := savePolicy(t, d, "zones: {}")
	path := d.policyPath(digest)
	before, err := os.Stat(path)
	must(t, err)
	savePolicy(t, d, "zones: {}")
	after, err := os.Stat(path)
	must(t, err)
	if !os.SameFile(before, after) || before.ModTime() != after.ModTime() {
		t.Error("written again")
	}
	// But one that a disk has cut off is mended.
	must(t, os.Truncate(path, before.Size()-1))
	savePolicy(t, d, "zones: {}")
	if _, err := d.LoadPolicy(digest); err != nil {
		t.Error(err)
	}
}

func TestLoadPolicyThatIsNotStored(t *testing.T) {
	d := openDir(t)
	if _, err := d.LoadPolicy(strings.Repeat("0", 64)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	for _, digest := range []string{"", "short", strings.Repeat("../", 30), strings.Repeat("z", 64)} {
		if _, err := d.LoadPolicy(digest); err == nil || !strings.Contains(err.Error(), "is not the digest of a policy") {
			t.Errorf("%q: %v", digest, err)
		}
	}
}

func TestLoadPolicyThatIsDamaged(t *testing.T) {
	d := openDir(t)
	digest := savePolicy(t, d, "zones: {}\nmasquerade: []\n")
	path := d.policyPath(digest)
	stored, err := os.ReadFile(path)
	must(t, err)
	refused := func(what string) {
		t.Helper()
		var broken *CorruptError
		if _, err := d.LoadPolicy(digest); !errors.As(err, &broken) || broken.Path != path {
			t.Errorf("%s: %v", what, err)
		}
	}
	for n := range len(stored) {
		must(t, os.WriteFile(path, stored[:n], 0o600))
		refused(fmt.Sprintf("cut at %d", n))
	}
	other := savePolicy(t, d, "zones: {a: {}}")
	must(t, os.Rename(d.policyPath(other), path))
	refused("another policy")
	for at := range len(stored) { // never a panic, and never another text
		damaged := append([]byte{}, stored...)
		damaged[at] ^= 0x55
		must(t, os.WriteFile(path, damaged, 0o600))
		if sources, err := d.LoadPolicy(digest); err == nil && Digest(sources) != digest {
			t.Errorf("damage at %d went unseen", at)
		}
	}
}

func FuzzUnframe(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x00\x00\x00\x00\x01\xff\xff\xff\xff\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, content []byte) {
		if sources, ok := unframe(content); ok {
			var again strings.Builder
			if frame(&again, sources); again.String() != string(content) {
				t.Fatalf("%q came back as %q", content, again.String())
			}
		}
	})
}

// large is a policy of 100,000 lines and 5 MB.
func large() []Source {
	var text strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&text, "  %5d/tcp: 10.%d.%d.%d:%d # tenant %d\n", i%65536, i>>16, i>>8&255, i&255, 1024+i*7%60000, i*7919%100003)
	}
	return []Source{{Name: "/etc/ipmasq/policy.yaml", Text: []byte(text.String())}}
}

func BenchmarkPolicy(b *testing.B) {
	sources := large()
	b.Run("digest", func(b *testing.B) {
		for b.Loop() {
			Digest(sources)
		}
	})
	b.Run("save", func(b *testing.B) {
		d := openDir(b)
		for b.Loop() {
			digest, err := d.SavePolicy(sources)
			must(b, err)
			must(b, os.Remove(d.policyPath(digest)))
		}
		b.ReportMetric(float64(len(sources[0].Text)), "textbytes")
	})
	b.Run("save again", func(b *testing.B) {
		d := openDir(b)
		for b.Loop() {
			_, err := d.SavePolicy(sources)
			must(b, err)
		}
	})
	b.Run("load", func(b *testing.B) {
		d := openDir(b)
		digest, err := d.SavePolicy(sources)
		must(b, err)
		info, err := os.Stat(filepath.Join(d.Path(), policyName(digest)))
		must(b, err)
		for b.Loop() {
			_, err := d.LoadPolicy(digest)
			must(b, err)
		}
		b.ReportMetric(float64(info.Size()), "filebytes")
	})
}

func BenchmarkSaveState(b *testing.B) {
	d := openDir(b)
	s := example(b, d)
	for b.Loop() {
		must(b, d.Save(s))
	}
}
