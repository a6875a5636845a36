package top

import (
	"fmt"
	"strconv"
	"time"
)

// AppendAmount adds a number in at most five characters, as 999, 12.3k or 4.56M,
// in powers of a thousand.
func AppendAmount(b []byte, n uint64) []byte {
	if n < 1000 {
		return strconv.AppendUint(b, n, 10)
	}
	// thousandths of the unit, of which three digits are shown
	unit := 0
	for ; n >= 999_500; unit++ {
		n = n/1000 + n%1000/500
	}
	decimals := func(n, of uint64, digits int) {
		b = append(strconv.AppendUint(b, n/of, 10), '.')
		for d := of / 10; digits > 0; digits, d = digits-1, d/10 {
			b = append(b, '0'+byte(n/d%10))
		}
	}
	switch {
	case n >= 99_950:
		b = strconv.AppendUint(b, (n+500)/1000, 10)
	case n >= 9_995:
		decimals((n+50)/100, 10, 1)
	default:
		decimals((n+5)/10, 100, 2)
	}
	return append(b, "kMGTPE"[unit])
}

// short is AppendAmount for what was measured.
func short(n float64) string { return string(AppendAmount(nil, uint64(n+0.5))) }

// span writes how long something takes, as 2s, 1.5s or 300ms.
func span(d time.Duration) string {
	if d < time.Second {
		return d.Round(time.Millisecond).String()
	}
	return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + "s"
}

// roughly is span for what was measured.
func roughly(d time.Duration) string { return span(d.Round(d2(d))) }

func d2(d time.Duration) time.Duration {
	if d < time.Second {
		return time.Millisecond
	}
	return 100 * time.Millisecond
}

// flowsOf names the flows that a kill is about.
func flowsOf(n int, r *Row) string {
	if r.Flow != nil {
		return "the flow " + r.Text()
	}
	what := r.View.String() + " " + r.Text()
	if r.View == ByEntry && r.Entry == "-" {
		what = "no entry"
	}
	return counted(n) + " of " + what
}

func counted(flows int) string {
	if flows == 1 {
		return "1 flow"
	}
	return fmt.Sprint(flows, " flows")
}
