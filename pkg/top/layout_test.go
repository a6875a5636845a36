package top

import (
	"strings"
	"testing"
)

// What is left of the columns as the terminal gets narrower.
func TestLayout(t *testing.T) {
	for _, c := range []struct {
		view   View
		width  int
		sorted Column
		want   string
	}{
		{ByHost, 100, Rate, "HOST FLOWS BIT/S SENT RECV PKT-SENT PKT-RECV BYTES"},
		{ByHost, 80, Rate, "HOST FLOWS BIT/S SENT RECV PKT-SENT PKT-RECV BYTES"},
		{ByHost, 79, Bytes, "HOST FLOWS BIT/S SENT RECV PKT-SENT BYTES"},
		{ByHost, 60, PacketsReceived, "HOST FLOWS SENT RECV PKT-RECV"},
		{ByHost, 30, Rate, "HOST BIT/S"},
		{ByHost, 20, Rate, "HOST BIT/S"},
		{ByHost, 19, Rate, "HOST"},
		{ByFlow, 80, Rate, "FLOW BIT/S SENT RECV BYTES"},
		{ByFlow, 80, PacketsSent, "FLOW SENT RECV PKT-SENT BYTES"},
		{ByFlow, 100, Rate, "FLOW ENTRY BIT/S SENT RECV BYTES"},
		{ByFlow, 120, Rate, "FLOW ENTRY BIT/S SENT RECV PKT-SENT PKT-RECV BYTES"},
		{ByFlow, 140, Rate, "FLOW STATE ENTRY BIT/S SENT RECV PKT-SENT PKT-RECV BYTES"},
		{ByFlow, 1, Name, "FLOW"},
	} {
		fields := layout(c.view, c.width, c.sorted)
		var got []string
		for _, f := range fields {
			got = append(got, strings.ReplaceAll(strings.TrimSpace(f.title), " ", "-"))
		}
		if text := strings.Join(got, " "); text != c.want || total(fields) > c.width {
			t.Errorf("by %s, %d wide, by %s: %s (%d), want %s", c.view, c.width, c.sorted, text, total(fields), c.want)
		}
	}
}

func TestShort(t *testing.T) {
	for n, want := range map[float64]string{
		0: "0", 999: "999", 999.6: "1.00k", 1234: "1.23k", 12345: "12.3k", 99949: "99.9k", 99951: "100k", 999499: "999k", 999501: "1.00M",
		1e9: "1.00G", 4.5e18: "4.50E", 18.4e18: "18.4E",
	} {
		if got := short(n); got != want {
			t.Errorf("%v is %s, want %s", n, got, want)
		}
	}
	for n, want := range map[float64]string{5: "5 ", 1500: "1.50 k"} {
		if got := unit(n); got != want {
			t.Errorf("%v is %q, want %q", n, got, want)
		}
	}
}

// A text that goes on says so: half a port would be another port.
func TestShortened(t *testing.T) {
	for _, c := range []struct {
		text  string
		width int
		want  string
	}{
		{"192.0.2.1:443", 13, "192.0.2.1:443"}, {"192.0.2.1:443", 12, "192.0.2.1:4…"}, {"äöü", 3, "äöü"}, {"äöü", 1, "…"}, {"a", 0, "a"},
	} {
		if got := shortened(c.text, c.width); got != c.want {
			t.Errorf("%q in %d is %q, want %q", c.text, c.width, got, c.want)
		}
	}
}
