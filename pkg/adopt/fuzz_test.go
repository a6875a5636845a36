package adopt

import (
	"errors"
	"testing"
)

// fuzz imports a text: it is refused as what it is, or gives a policy that the
// language takes. Any other error is a defect of import.
func fuzz(f *testing.F, format Format, file string) {
	for _, in := range corpus(f) {
		for _, x := range in {
			if x.Name == file {
				f.Add(x.Text)
			}
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > 1<<15 {
			return
		}
		_, err := Import([]Input{{Name: "rules", Text: text, Format: format}})
		var m *Mistake
		if err != nil && !errors.As(err, &m) {
			t.Error(err)
		}
	})
}

func FuzzIPTables(f *testing.F)  { fuzz(f, IPTables, "rules.v4") }
func FuzzIP6Tables(f *testing.F) { fuzz(f, IP6Tables, "rules.v6") }
func FuzzNFT(f *testing.F)       { fuzz(f, NFT, "rules.json") }
