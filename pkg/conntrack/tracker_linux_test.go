package conntrack

import (
	"strings"
	"testing"
	"time"
)

// What the kernel tells, and what a listing holds, may be read in any order.
// The steps are
//
//	+a -a ~a   the kernel tells that a began, ended, has changed
//	a  a!      a listing holds a; it is dying
//	( ) [      a listing begins, ends; the first one begins
//
// and of what is told, > is "open", ? stands behind what was compared.
func TestTrackerOrders(t *testing.T) {
	for _, c := range []struct{ name, steps, want string }{
		{"nothing odd", "[ ) +a ~a -a", "+a ~a -a"},
		{"open before", "[ a ) -a", ">a -a"},
		{"began while it is listed, told before", "[ +a a ) -a", "+a -a"},
		{"began while it is listed, told after", "[ a +a ) -a", ">a -a"},
		{"ended before it was read, told before", "[ -a a )", "-a"},
		{"ended and told after the listing", "[ a ) -a ( ) ( )", ">a -a"},
		{"began and ended, all told before it was read", "[ +a -a a )", "+a -a"},
		{"ended, and the same again", "[ +a -a +a a ) -a", "+a -a +a -a"},
		{"ended, and the same again, listed between", "[ ) +a ( -a a +a ) ( a ) -a", "+a -a +a -a"},
		{"the message that it began was lost", "[ ) ( a ) -a", "+a? -a"},
		{"that it began and ended", "[ ) ( ) ( )", ""},
		{"that it began, not that it ended", "[ ) -a ( )", "-a"},
		{"that it ended", "[ ) +a +b ( b ) -b", "+a +b -a? -b"},
		{"that it ended, of one that was open", "[ a b ) ( b ) ( b )", ">a >b -a?"},
		{"that it ended, and the same began", "[ ) +a +a ( a ) -a", "+a -a? +a -a"},
		{"is told to have ended while it is listed", "[ ) +a ( -a )", "+a -a"},
		{"began while the table was listed behind it", "[ ) ( +a ) ( a )", "+a"},
		{"listed twice", "[ a a ) ( a a )", ">a"},
		{"dying, and told", "[ ) +a ( a! ) -a ( )", "+a -a"},
		{"dying, and the message was lost", "[ ) +a ( a! ) ( )", "+a -a?"},
		{"dying and not known", "[ a! ) ( a! )", ""},
		{"dying and told between", "[ ) +a ( -a a! )", "+a -a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var told []string
			tr := &tracker{Watch: &Watch{options: ListenOptions{Existing: true}}, known: newKnown(),
				in: &receiver{queue: make(chan parcel)}}
			tr.yield = func(e *Event) error {
				text := string("+~->"[e.Kind]) + string(rune(e.Flow.ID))
				if e.Compared {
					text += "?"
				}
				told = append(told, text)
				return nil
			}
			first := false
			for step := range strings.FieldsSeq(c.steps) {
				f := numbered(IPv4, uint32(step[len(step)-1]))
				f.ID = uint32(step[len(step)-1])
				var err error
				switch step[0] {
				case '[', '(':
					first = step == "["
					tr.listing, tr.round = true, tr.round^recordSeen
				case ')':
					tr.listing = false
					err = tr.sweep()
				case '+', '-', '~':
					tr.event = Event{Kind: map[byte]EventKind{'+': EventNew, '-': EventDestroy, '~': EventUpdate}[step[0]], Time: time.Now(), Flow: f}
					err = tr.toldOf()
				default:
					if f = numbered(IPv4, uint32(step[0])); strings.HasSuffix(step, "!") {
						f.Status |= StatusDying
					}
					f.ID = uint32(step[0])
					err = tr.listed(&f, first)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if got := strings.Join(told, " "); got != c.want {
				t.Errorf("%s: told %q, want %q", c.steps, got, c.want)
			}
			if open := strings.Count(c.want, "+") + strings.Count(c.want, ">") - strings.Count(c.want, "-"); tr.known.len() != max(open, 0) {
				t.Errorf("%d are known, want %d", tr.known.len(), open)
			}
			if tr.known.silent < 0 || tr.known.silent > tr.known.len() {
				t.Errorf("%d of %d may end without a word", tr.known.silent, tr.known.len())
			}
		})
	}
}

// Whatever comes, it is told of, passed over, or ends the watch.
func FuzzTold(f *testing.F) {
	header := []byte{60, 0, 0, 0, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0}
	f.Add(append(header, 20, 0, 1, 128, 16, 0, 1, 128, 8, 0, 1, 0, 10, 0, 0, 1, 8, 0, 2, 0, 10, 0, 0, 2, 20, 0, 2, 128, 16, 0, 1, 128, 8, 0, 1, 0, 10, 0, 0, 2, 8, 0, 2, 0, 10, 0, 0, 1))
	f.Add(header[:16])
	f.Fuzz(func(t *testing.T, messages []byte) {
		tr := &tracker{Watch: &Watch{}, in: &receiver{free: make(chan []byte, 1)}, known: newKnown(), yield: func(e *Event) error {
			if e.Flow.String() == "" {
				t.Error("a connection without a text")
			}
			return nil
		}}
		_ = tr.handle(parcel{messages: messages})
		for _, listing := range []bool{true, false} {
			tr.listing = listing
			if err := tr.sweep(); err != nil {
				t.Error(err)
			}
		}
	})
}
