package top

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gdamore/tcell/v3"
	"github.com/ipmasq/ipmasq/pkg/conntrack"
	"github.com/ipmasq/ipmasq/test/terminal"
	"golang.org/x/sys/unix"
)

// table is a kernel's table whose flows carry a megabit and a hundred packets
// more with every listing, if they are of 192.168.1.0/24; the others stand still.
type table struct {
	mu     sync.Mutex
	flows  []conntrack.Flow
	fails  error
	panics bool
	hold   chan struct{} // a listing waits for it
}

func (t *table) List(_ *conntrack.Filter, yield func(*conntrack.Flow) bool) error {
	if t.hold != nil {
		<-t.hold
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.panics {
		panic("the kernel's answer makes no sense")
	}
	for i := range t.flows {
		f := &t.flows[i]
		if strings.HasPrefix(f.Original.Source.String(), "192.168.1.") {
			f.Sent.Bytes += 125_000
			f.Sent.Packets += 100
		}
		if !yield(f) {
			break
		}
	}
	return t.fails
}

func (t *table) DeleteAll(list []conntrack.Flow) (n int, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range list {
		before := len(t.flows)
		t.flows = slices.DeleteFunc(t.flows, func(have conntrack.Flow) bool { return have.ID == f.ID })
		n += before - len(t.flows)
	}
	return n, nil
}

func (t *table) set(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f()
}

// small is a table of four flows.
func small() *table {
	return &table{flows: []conntrack.Flow{
		tcp(1, "192.168.1.10:4000", "198.51.100.9:443", 1000, 10000),
		tcp(2, "192.168.1.10:4001", "198.51.100.8:443", 500, 500),
		tcp(3, "192.168.3.30:4000", "198.51.100.9:443", 9e9, 0),
		forwarded(4, "198.51.100.7:5000", "192.168.2.20:80", 7000, 7000),
	}}
}

// shown is a screen that runs on a terminal.
type shown struct {
	*terminal.Terminal
	table *table
	stop  func()
	done  chan struct{}
	err   error
	panic any
}

func show(t *testing.T, width, height int, of *table, o Options) *shown {
	t.Helper()
	x := &shown{Terminal: terminal.New(t, width, height), table: of, done: make(chan struct{})}
	tty, err := tcell.NewDevTtyFromDev(x.Path)
	if err != nil {
		t.Fatal(err)
	}
	if o.Interval == 0 {
		o.Interval = 20 * time.Millisecond
	}
	o.Source = of
	if o.Judge == nil {
		o.Judge = &judge{}
	}
	var ctx context.Context
	ctx, x.stop = context.WithCancel(t.Context())
	go func() {
		defer close(x.done)
		defer func() { x.panic = recover() }()
		x.err = run(ctx, tty, o)
	}()
	t.Cleanup(func() { x.stop(); x.wait(t) })
	return x
}

func (x *shown) wait(t *testing.T) {
	t.Helper()
	select {
	case <-x.done:
	case <-time.After(30 * time.Second):
		t.Fatal("it does not end")
	}
}

// row finds the line of a name, among the rows.
func row(lines []string, name string) string {
	for _, l := range lines {
		if strings.HasPrefix(l, name) {
			return l
		}
	}
	return ""
}

// order waits until names stand in this order.
func (x *shown) order(what string, names ...string) []string {
	return x.Wait(what+": "+strings.Join(names, ", "), func(lines []string) bool {
		at := -1
		for _, name := range names {
			i := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, name) })
			if i <= at {
				return false
			}
			at = i
		}
		return true
	})
}

func utf8Locale(t *testing.T) {
	for _, name := range []string{"LC_ALL", "TERM", "NO_COLOR", "COLORTERM"} {
		t.Setenv(name, map[string]string{"LC_ALL": "C.UTF-8", "TERM": "xterm-256color"}[name])
	}
}

// The views, one after another, and what they say.
func TestScreenViews(t *testing.T) {
	utf8Locale(t)
	x := show(t, 100, 30, small(), Options{Fill: func() (uint64, uint64, error) { return 4, 100, nil }})
	x.WaitText("conntrack 4 of 100 flows [#...................] 4.0 %")
	x.WaitText("shown 4 flows, 0 new/s, 0 ended/s; sent")
	x.WaitText("every 20ms")
	lines := x.order("by rate", "HOST", "192.168.1.10", "192.168.3.30")
	if r := strings.Fields(row(lines, "192.168.1.10")); len(r) != 8 || r[1] != "2" || !strings.HasSuffix(r[2], "M") && !strings.HasSuffix(r[2], "k") || r[4] != "0" {
		t.Errorf("the row of a host that sends: %q", r)
	}
	for _, c := range []struct{ keys, text string }{
		{"e", "port_forward web"}, {"d", "198.51.100.8"}, {"f", "tcp 192.168.1.10:4001 > 198.51.100.8:443"}, {"h", "192.168.3.30"},
		{"\t", "ENTRY"}, {"\t", "DESTINATION"}, {"\t", "FLOW"}, {"\t", "HOST"}, {"\x1b[Z", "FLOW"},
	} {
		x.Type(c.keys)
		x.WaitText(c.text)
	}
	x.Type("?")
	x.WaitText("a longer or a shorter interval")
	x.Type("x")
	x.WaitGone("a longer or a shorter interval")
	x.Type("+")
	x.WaitText("every 500ms")
	x.Type("-")
	x.WaitText("every 500ms") // there is nothing shorter
	x.Type("q")
	x.wait(t)
	x.WaitRestored()
	if x.err != nil {
		t.Error(x.err)
	}
}

// Sort, reverse and filter.
func TestScreenOrder(t *testing.T) {
	utf8Locale(t)
	x := show(t, 100, 30, small(), Options{Sort: Flows})
	x.order("by flows", "192.168.1.10 ", "192.168.3.30", "192.168.2.20")
	x.WaitText("FLOWS↓")
	x.Type("<")
	x.WaitText("HOST↑")
	x.order("by name", "192.168.1.10 ", "192.168.2.20", "192.168.3.30")
	x.Type("r")
	x.order("by name, reversed", "192.168.3.30", "192.168.2.20", "192.168.1.10 ")
	x.WaitText("HOST↓")
	x.Type("<") // around to the last one
	x.WaitText("BYTES↑")
	x.Type("\x1b[C\x1b[C\x1b[C") // right: name, flows, rate
	x.WaitText("BIT/S↑")
	x.Type("r")
	x.WaitText("BIT/S↓")
	x.Type("/2.2")
	x.WaitText("filter: 2.2")
	x.WaitGone("192.168.1.10")
	x.Type("\x7f\x7f\x7f3.3")
	x.WaitText("192.168.3.30")
	x.Type("\r")
	x.WaitText(`only "3.3", until Esc`)
	x.WaitGone("filter:")
	x.Type("\x1b")
	x.WaitText("192.168.1.10 ")
	x.Type("/日本語")
	x.WaitText(`no row holds "日本語"`)
	x.WaitText("filter: 日本語")
	x.Type("\x1b")
	x.WaitText("192.168.1.10 ")
}

// Paused, nothing moves; views and orders can still be looked at.
func TestScreenPaused(t *testing.T) {
	utf8Locale(t)
	x := show(t, 100, 30, small(), Options{})
	x.WaitText("new/s")
	x.Type("p")
	x.WaitText("PAUSED")
	x.table.set(func() { x.table.flows = nil })
	x.Type("f")
	x.WaitText("tcp 192.168.3.30")
	x.Type("h")
	x.order("what was there", "192.168.1.10 ")
	x.Type(" ")
	x.WaitText("shown 0 flows")
	x.WaitText("no flows")
	x.WaitGone("PAUSED")
}

// A kill is asked for, says how many, and takes the selected row's flows alone.
func TestScreenKill(t *testing.T) {
	utf8Locale(t)
	x := show(t, 100, 30, small(), Options{Sort: Name})
	x.order("by name", "192.168.1.10 ", "192.168.2.20", "192.168.3.30")
	x.Type("k")
	x.WaitText("y/n? kill 2 flows of host 192.168.1.10")
	x.Type("n")
	x.WaitText("nothing is killed")
	x.Type("\x1b[Bk")
	x.WaitText("y/n? kill 1 flow of host 192.168.2.20")
	x.Type("x")
	x.WaitText("nothing is killed")
	x.WaitText("shown 4 flows")
	x.Type("\x1b[A\x1b[A\x1b[Aky")
	x.WaitText("killed 2 flows of host 192.168.1.10")
	x.WaitText("shown 2 flows")
	x.Type("f")
	x.WaitText("tcp 192.168.3.30")
	x.Type("/3.30\rky")
	x.WaitText("killed the flow tcp 192.168.3.30:4000 > 198.51.100.9:443")
	x.table.set(func() {
		if len(x.table.flows) != 1 || x.table.flows[0].ID != 4 {
			t.Errorf("left: %v", x.table.flows)
		}
	})
	x.Type("\x1b") // at once before e it would be Alt-e
	x.WaitGone("until Esc")
	x.Type("e")
	x.WaitText("port_forward web")
	x.Type("k")
	x.WaitText("y/n? kill 1 flow of entry port_forward web")
	x.Type("y")
	x.WaitText("killed 1 flow of entry port_forward web")
	x.WaitText("shown 0 flows")
}

// The selected row stays the selected one wherever it goes.
func TestScreenSelection(t *testing.T) {
	utf8Locale(t)
	var list []conntrack.Flow
	for i := range 100 {
		list = append(list, tcp(uint32(i), fmt.Sprintf("10.0.0.%d:4000", i), "198.51.100.9:443", uint64(i), 0))
	}
	x := show(t, 80, 24, &table{flows: list}, Options{Sort: Name})
	x.order("by name", "10.0.0.0 ", "10.0.0.1 ")
	x.Type("\x1b[6~\x1b[6~") // page down
	x.WaitText("10.0.0.38 ")
	x.WaitGone("10.0.0.0 ")
	x.Type("\x1b[F") // end
	x.WaitText("10.0.0.99 ")
	x.Type("r")
	x.order("reversed", "10.0.0.99 ", "10.0.0.98 ")
	x.Type("k")
	x.WaitText("host 10.0.0.99")
	x.Type("n\x1b[H\x1b[B\x1b[5~k") // home, down, page up
	x.WaitText("host 10.0.0.99")
	x.Type("nrk")
	x.WaitText("host 10.0.0.99")
}

// Whatever size it is, it neither breaks nor draws over its edges.
func TestScreenSizes(t *testing.T) {
	utf8Locale(t)
	x := show(t, 80, 24, small(), Options{Fill: func() (uint64, uint64, error) { return 90, 100, nil }})
	x.WaitText("NEARLY FULL")
	for _, size := range [][2]int{{40, 10}, {20, 6}, {10, 3}, {3, 2}, {1, 1}, {200, 60}, {80, 24}} {
		for _, view := range []string{"h", "f"} {
			x.Resize(size[0], size[1])
			x.Type(view)
			if err := unix.Kill(unix.Getpid(), unix.SIGWINCH); err != nil { // the terminal controls no process
				t.Fatal(err)
			}
			name := map[string]string{"h": "HOST", "f": "FLOW"}[view]
			x.Wait(fmt.Sprintf("%s at %d x %d", name, size[0], size[1]), func(lines []string) bool {
				if len(lines) != size[1] {
					return false
				}
				return size[1] < 3 || size[0] < 5 || strings.Contains(strings.Join(lines, "\n"), name)
			})
		}
	}
	x.WaitText("tcp 192.168.1.10:4000")
}

// NO_COLOR's way: what is coloured is then bold or reversed, and nothing else.
func TestScreenColours(t *testing.T) {
	utf8Locale(t)
	for _, none := range []bool{false, true} {
		x := show(t, 80, 24, small(), Options{NoColor: none, Fill: func() (uint64, uint64, error) { return 80, 100, nil }})
		lines := x.WaitText("NEARLY FULL")
		y := slices.IndexFunc(lines, func(l string) bool { return strings.Contains(l, "NEARLY FULL") })
		if x.Coloured(y) == none {
			t.Errorf("without colours: %v; the warning has one: %v", none, !none)
		}
		x.Type("q")
		x.wait(t)
		x.WaitRestored()
	}
}

// Terminals that know less.
func TestScreenTerminals(t *testing.T) {
	for _, c := range []struct{ term, locale, arrow string }{
		{"vt100", "C", "BIT/Sv"}, {"linux", "C.UTF-8", "BIT/S↓"}, {"screen", "de_DE.ISO-8859-15", "BIT/Sv"}, {"nobody-knows-it", "", "BIT/S↓"},
	} {
		t.Run(c.term, func(t *testing.T) {
			utf8Locale(t)
			t.Setenv("TERM", c.term)
			t.Setenv("LC_ALL", c.locale)
			t.Setenv("LC_CTYPE", "")
			t.Setenv("LANG", c.locale)
			x := show(t, 80, 24, small(), Options{})
			x.WaitText(c.arrow)
			x.order("rows", "192.168.1.10 ")
			x.Type("q")
			x.wait(t)
			x.WaitRestored()
			if strings.Contains(x.Written(), "\x1b[c") {
				t.Error("the terminal was asked what it is")
			}
		})
	}
}

// However it ends, the terminal is as it was.
func TestScreenRestored(t *testing.T) {
	utf8Locale(t)
	for name, end := range map[string]func(x *shown){
		"q":         func(x *shown) { x.Type("q") },
		"ctrl-c":    func(x *shown) { x.Type("\x03") },
		"a signal":  func(x *shown) { x.stop() },
		"a panic":   func(x *shown) { x.table.set(func() { x.table.panics = true }) },
		"in filter": func(x *shown) { x.Type("/abc\x03") },
	} {
		t.Run(name, func(t *testing.T) {
			x := show(t, 80, 24, small(), Options{})
			x.WaitText("new/s")
			if x.Taken() == "" {
				t.Error("it draws, and the terminal is as before")
			}
			end(x)
			x.wait(t)
			x.WaitRestored()
			if wants := name == "a panic"; wants != (x.panic != nil) || wants && !strings.Contains(fmt.Sprint(x.panic), "makes no sense") {
				t.Errorf("panic: %v", x.panic)
			}
		})
	}
}

// Keys are answered while the table is read, and it ends in the middle of that.
func TestScreenWhileReading(t *testing.T) {
	utf8Locale(t)
	of := small()
	of.hold = make(chan struct{})
	x := show(t, 80, 24, of, Options{})
	x.WaitText("reading ...")
	of.hold <- struct{}{} // the first listing
	x.WaitText("192.168.1.10 ")
	x.Type("?")
	x.WaitText("the other way round")
	x.Type("xf")
	x.WaitText("tcp 192.168.1.10")
	x.Type("q")
	x.WaitRestored()
	close(of.hold) // the kernel lets go
	x.wait(t)
}

// A first listing that fails is the program's error; a later one is told of.
func TestScreenErrors(t *testing.T) {
	utf8Locale(t)
	of := small()
	of.fails = errors.New("not permitted")
	x := show(t, 80, 24, of, Options{})
	x.wait(t)
	x.WaitRestored()
	if !errors.Is(x.err, of.fails) {
		t.Errorf("error %v", x.err)
	}
	x = show(t, 80, 24, small(), Options{})
	x.WaitText("new/s")
	x.table.set(func() { x.table.fails = errors.New("no memory for that") })
	x.WaitText("no memory for that")
	x.table.set(func() { x.table.fails = nil })
	x.WaitGone("no memory for that")
	x.WaitText("new/s")
}

// A table that takes long to read is read less often.
func TestPace(t *testing.T) {
	for _, c := range []struct{ interval, took, want time.Duration }{
		{2 * time.Second, time.Millisecond, 2 * time.Second},
		{2 * time.Second, 600 * time.Millisecond, 2 * time.Second},
		{2 * time.Second, 2 * time.Second, 6 * time.Second},
	} {
		if got := pace(c.interval, c.took); got != c.want {
			t.Errorf("every %v, and it takes %v: %v, want %v", c.interval, c.took, got, c.want)
		}
	}
	r := reading{took: 1234 * time.Millisecond, sample: &Sample{}}
	if h := r.head(&Options{}, settings{interval: 2 * time.Second}); !strings.Contains(h.title, "every 3.7s, since a reading takes 1.2s") {
		t.Errorf("the title says %q", h.title)
	}
}

// Entries with wide characters, as a policy's own names may not have, but IDN
// and a person's filter may.
func TestWide(t *testing.T) {
	utf8Locale(t)
	x := terminal.New(t, 10, 2)
	tty, err := tcell.NewDevTtyFromDev(x.Path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := tcell.NewTerminfoScreenFromTty(tty, tcell.OptNegotiation(false))
	if err == nil {
		err = s.Init()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer s.Fini()
	v := &screen{terminal: s}
	v.cell(0, 0, field{width: 5}, "日本語", plain) // two and a half fit
	v.cell(5, 0, field{width: 5}, "abcdefgh", plain)
	s.Show()
	x.WaitText("日本 abcd…")
}
