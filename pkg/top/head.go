package top

import (
	"fmt"
	"strings"
)

// fullAt is how full the kernel's table is when that deserves a warning.
const fullAt = 0.8

// head is what stands above the rows. The second line holds the bar, which may
// be coloured.
type head struct {
	title, fill, traffic string
	nearlyFull           bool
}

func (r *reading) head(o *Options, w settings) head {
	s := r.sample
	h := head{title: "ipmasq connections"}
	if o.Name != "" {
		h.title += " in " + o.Name
	}
	h.title += "   " + s.At.Format("15:04:05") + "   every " + span(w.interval)
	if next := pace(w.interval, r.took); next > w.interval {
		h.title = strings.TrimSuffix(h.title, span(w.interval)) + roughly(next) + ", since a reading takes " + roughly(r.took)
	}
	if w.paused {
		h.title += "   PAUSED"
	}
	if w.question.Text != "" {
		h.title += fmt.Sprintf("   only %q, until Esc", w.question.Text)
	}
	switch {
	case r.limit == 0 && r.count > 0: // an older kernel does not say
		h.fill = fmt.Sprintf("conntrack %d flows", r.count)
	case r.limit > 0:
		part := float64(r.count) / float64(r.limit)
		h.nearlyFull = part >= fullAt
		h.fill = fmt.Sprintf("conntrack %d of %d flows %s %.1f %%", r.count, r.limit, bar(part, 20), 100*part)
		if h.nearlyFull {
			h.fill += "  NEARLY FULL: raise nf_conntrack_max"
		}
	}
	h.traffic = s.traffic()
	return h
}

// traffic is all that the rows show together.
func (s *Sample) traffic() string {
	text := "shown " + counted(s.Flows)
	if s.Since > 0 {
		text += fmt.Sprintf(", %s new/s, %s ended/s", short(float64(s.New)/s.Since.Seconds()), short(float64(s.Ended)/s.Since.Seconds()))
	}
	if s.Known(&s.Sum) {
		text += fmt.Sprintf("; sent %sbit/s %sp/s, received %sbit/s %sp/s",
			unit(s.Number(&s.Sum, Sent)), unit(s.Number(&s.Sum, PacketsSent)), unit(s.Number(&s.Sum, Received)), unit(s.Number(&s.Sum, PacketsReceived)))
	}
	return text
}

// hint says why there are no rates, or not for all flows.
func (s *Sample) hint() string {
	switch {
	case s.Uncounted == 0:
		return ""
	case s.Uncounted == s.Flows:
		return "no rates: needs nf_conntrack_acct=1 (policy: accounting) as a flow begins"
	}
	return counted(s.Uncounted) + " without rates: nf_conntrack_acct was 0 at the beginning"
}

// unit puts a space between the number and its unit.
func unit(n float64) string {
	text := short(n)
	if last := text[len(text)-1]; last > '9' {
		return text[:len(text)-1] + " " + string(last)
	}
	return text + " "
}

func bar(part float64, width int) string {
	full := min(width, max(0, int(part*float64(width)+0.5)))
	return "[" + strings.Repeat("#", full) + strings.Repeat(".", width-full) + "]"
}
