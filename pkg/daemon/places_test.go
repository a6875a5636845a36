package daemon

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// Every folder and link on the way to a file counts, and the file itself.
func TestPlaces(t *testing.T) {
	t.Parallel()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, err := range []error{
		os.MkdirAll(at("volume/..1/sub"), 0o700), os.WriteFile(at("volume/..1/a.yaml"), nil, 0o600),
		os.Symlink("..1", at("volume/..data")), os.Symlink("..data/a.yaml", at("volume/a.yaml")),
		os.Symlink(at("volume"), at("link")), os.Symlink("loop", at("loop")), os.Symlink("volume/..data/sub/../a.yaml", at("round")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		path    string
		folders map[string][]string // below dir
		files   []string
	}{
		{"volume/..1/a.yaml", map[string][]string{"": {"volume"}, "volume": {"..1"}, "volume/..1": {"a.yaml"}}, []string{"volume/..1/a.yaml"}},
		{"link/a.yaml", map[string][]string{"": {"link", "volume"}, "volume": {"a.yaml", "..data", "..1"}, "volume/..1": {"a.yaml"}}, []string{"volume/..1/a.yaml"}},
		{"round", map[string][]string{"": {"round", "volume"}, "volume": {"..data", "..1"}, "volume/..1": {"sub", "a.yaml"}}, []string{"volume/..1/a.yaml"}},
		{"none/later/a.yaml", map[string][]string{"": {"none"}}, nil},
		{"volume", map[string][]string{"": {"volume"}, "volume": {"*"}}, nil},
		{"loop", map[string][]string{"": {"loop"}}, nil},
	} {
		p := placesOf([]string{at(c.path)})
		for folder, names := range c.folders {
			if got := p.folders[at(folder)]; !slices.Equal(got, names) {
				t.Errorf("%s: in %q %q matter, want %q", c.path, folder, got, names)
			}
		}
		below := 0
		for folder := range p.folders {
			if len(folder) >= len(dir) {
				below++
			}
		}
		if below != len(c.folders) {
			t.Errorf("%s: %d folders, want %d: %v", c.path, below, len(c.folders), p.folders)
		}
		var want []string
		for _, f := range c.files {
			want = append(want, at(f))
		}
		if !slices.Equal(p.files, want) {
			t.Errorf("%s: files %q, want %q", c.path, p.files, want)
		}
	}
}
