package top

import (
	"fmt"
	"slices"
	"time"

	"github.com/gdamore/tcell/v3"
)

// mode is what keys mean.
type mode uint8

const (
	watching  mode = iota
	filtering      // a text is being typed
	asking         // whether to kill
	helping
)

// screen is what is on the terminal, and how it answers keys.
type screen struct {
	terminal tcell.Screen
	o        *Options
	sampler  *sampler
	settings settings
	view     View
	mode     mode
	quit     bool
	message  string // of the last line
	failed   bool   // and it is about a reading
	text     string // while it is typed
	victim   Row    // while it is asked about

	reading *reading // nil: none yet
	rows    []Row
	left    int
	// selected is the row that keys are for. Pinned, it is where its key is;
	// until somebody has moved, it is the first one.
	selected int
	pinned   *Key
	first    int // row at the top
	height   int // rows that there is room for
}

func newScreen(terminal tcell.Screen, o *Options) *screen {
	return &screen{terminal: terminal, o: o, sampler: newSampler(o), view: o.View,
		settings: settings{question: Question{Sort: o.Sort, Reversed: o.Reversed}, interval: o.Interval}}
}

// take takes a new reading. The first one that fails ends the program; later
// ones are told of.
func (v *screen) take(r reading) error {
	if r.sample == nil && v.reading == nil {
		return r.err
	}
	if v.failed {
		v.message = ""
	}
	if v.failed = r.err != nil; v.failed {
		v.message = r.err.Error()
	}
	if r.sample == nil || v.settings.paused {
		return nil // the latter was on the way when somebody said so
	}
	v.reading = &r
	v.arrange()
	return nil
}

// arrange sorts and filters the rows anew, and finds the selected one again.
func (v *screen) arrange() {
	if v.reading == nil {
		return
	}
	v.rows, v.left = v.reading.sample.Rows(v.view, v.settings.question)
	if v.pinned != nil {
		if i := slices.IndexFunc(v.rows, func(r Row) bool { return r.Key == *v.pinned }); i >= 0 {
			v.selected = i
		}
	} else {
		v.selected = 0
	}
	v.selected = max(0, min(v.selected, len(v.rows)-1))
}

// move selects another row.
func (v *screen) move(by int) {
	if len(v.rows) == 0 {
		return
	}
	v.selected = max(0, min(v.selected+by, len(v.rows)-1))
	key := v.rows[v.selected].Key
	v.pinned = &key
}

// show changes the view.
func (v *screen) show(to View) {
	v.view, v.pinned, v.first = to, nil, 0
	if to == ByFlow && v.settings.question.Sort == Flows {
		v.settings.question.Sort = Rate // every flow is one
	}
	v.changed()
}

// changed tells the sampler what is wanted now.
func (v *screen) changed() {
	v.sampler.set(v.settings)
	v.arrange()
}

// sortBy goes to the next column, or the one before.
func (v *screen) sortBy(step int) {
	fields := layout(v.view, 1000, Rate)
	var sorts []Column
	for _, f := range fields {
		if f.sort < columns {
			sorts = append(sorts, f.sort)
		}
	}
	i := slices.Index(sorts, v.settings.question.Sort)
	v.settings.question.Sort = sorts[(i+step+len(sorts))%len(sorts)]
	v.changed()
}

// paces are the intervals that + and - go through.
var paces = []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second, 3 * time.Second, 5 * time.Second,
	10 * time.Second, 30 * time.Second, time.Minute}

func (v *screen) pace(longer bool) {
	now := v.settings.interval
	if longer {
		if i := slices.IndexFunc(paces, func(d time.Duration) bool { return d > now }); i >= 0 {
			v.settings.interval = paces[i]
		}
	} else {
		for _, d := range slices.Backward(paces) {
			if d < now {
				v.settings.interval = d
				break
			}
		}
	}
	v.sampler.set(v.settings)
}

// ask asks whether to kill the selected row's flows.
func (v *screen) ask() {
	if len(v.rows) == 0 {
		return
	}
	v.victim = v.rows[v.selected]
	if v.view != ByEntry && v.view != ByFlow && !v.victim.Addr.IsValid() {
		v.message = "these are many hosts: filter, and kill them one by one"
		return
	}
	key := v.victim.Key
	v.pinned = &key
	v.mode = asking
}

// kill has the sampler do it. One at a time.
func (v *screen) kill() {
	select {
	case v.sampler.kills <- v.victim:
		v.message = "killing " + flowsOf(v.victim.Flows, &v.victim) + " ..."
	default:
		v.message = "the last kill is not done yet"
	}
}

func (k killed) String() string {
	text := "killed " + flowsOf(k.flows, &k.row)
	if k.row.Flow != nil && k.flows == 0 {
		text = "gone already: " + flowsOf(0, &k.row)
	}
	switch {
	case k.err != nil:
		return fmt.Sprintf("%s, then: %v", text, k.err)
	case k.spared > 0 && k.flows == 0:
		return "spared: the session that this is run over"
	case k.spared > 0:
		return text + "; spared the session that this is run over"
	}
	return text
}
