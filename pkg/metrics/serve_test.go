package metrics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/pkg/engine"
)

func TestParseAddress(t *testing.T) {
	for text, want := range map[string]string{
		":9742":              "[127.0.0.1:9742 [::1]:9742]",
		"9742":               "[127.0.0.1:9742 [::1]:9742]",
		"localhost:9742":     "[127.0.0.1:9742 [::1]:9742]",
		"127.0.0.1:1":        "[127.0.0.1:1]",
		"0.0.0.0:9742":       "[0.0.0.0:9742]",
		"[::]:9742":          "[[::]:9742]",
		"[2001:db8::1]:9742": "[[2001:db8::1]:9742]",
		"[fe80::1%eth0]:80":  "[[fe80::1%eth0]:80]",
	} {
		if got, err := ParseAddress(text); err != nil || fmt.Sprint(got) != want {
			t.Errorf("%q is %v, %v; want %s", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"":                 "no port",
		":":                "no port",
		":http":            "no port",
		":65536":           "no port",
		":-1":              "no port",
		"*:9742":           "write [::]:9742",
		"gateway:9742":     "names are not looked up",
		"192.0.2.1":        "no port",
		"192.0.2.300:9742": "write an address in numbers",
		"::1:9742":         "is not an address",
		"2001:db8::1":      "is not an address",
		"/run/metrics":     "no port",
	} {
		if got, err := ParseAddress(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is %v, %v; want an error with %q", text, got, err, want)
		}
	}
}

// serving gives the addresses of a server that ends with the test.
func serving(t *testing.T, addr string, c *Collector) (list []string, end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	s, err := Listen(ctx, addr, c)
	for range 5 {
		if addr == ":0" && errors.Is(err, syscall.EADDRINUSE) { // the other family's port is somebody else's
			s, err = Listen(ctx, addr, c)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- s.Serve(ctx) }()
	ended := false
	end = func() {
		if cancel(); !ended {
			ended = true
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(end)
	for _, a := range s.Addrs() {
		list = append(list, a.String())
	}
	return list, end
}

func quiet() *Collector {
	source := func(context.Context) (*engine.Status, error) { return &engine.Status{}, nil }
	return New(source, func() Daemon { return Daemon{} }, built, nil)
}

func get(t *testing.T, method, url string) (code int, kind, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	r, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, r.Header.Get("Content-Type"), string(text)
}

// There are metrics and an index, on the loopback addresses, and nothing else.
// It is not parallel: another test's server could be given the port at the end.
func TestServe(t *testing.T) {
	list, end := serving(t, ":0", quiet())
	if len(list) == 0 || !strings.HasPrefix(list[0], "127.0.0.1:") {
		t.Fatalf("it is bound to %v", list)
	}
	for _, addr := range list {
		code, kind, body := get(t, "GET", "http://"+addr+"/metrics")
		if code != 200 || !strings.HasPrefix(kind, "text/plain; version=0.0.4") || !strings.Contains(body, "\nipmasq_up 1\n") ||
			!strings.Contains(body, "\nprocess_open_fds ") || !strings.Contains(body, "\ngo_goroutines ") {
			t.Errorf("%s: %d %s\n%s", addr, code, kind, body)
		}
		if code, _, body := get(t, "GET", "http://"+addr+"/"); code != 200 || !strings.Contains(body, `href="/metrics"`) {
			t.Errorf("%s: the index is %d %q", addr, code, body)
		}
	}
	for request, want := range map[string]int{
		"POST /metrics": 405, "DELETE /": 405, "GET /metrics/": 404, "GET /debug/vars": 404, "GET /debug/pprof/": 404, "GET /favicon.ico": 404, "HEAD /metrics": 200,
	} {
		method, path, _ := strings.Cut(request, " ")
		if code, _, _ := get(t, method, "http://"+list[0]+path); code != want {
			t.Errorf("%s: %d, want %d", request, code, want)
		}
	}
	end()
	if c, err := net.Dial("tcp", list[0]); err == nil {
		c.Close()
		t.Error("it still takes connections after its end")
	}
}

// An address that is not there to be had is an error before anything is served.
func TestListenFails(t *testing.T) {
	t.Parallel()
	list, _ := serving(t, "127.0.0.1:0", quiet())
	_, port, _ := net.SplitHostPort(list[0])
	for addr, want := range map[string]string{list[0]: "address already in use", ":" + port: "address already in use", "192.0.2.77:0": "assign requested address"} {
		if _, err := Listen(t.Context(), addr, quiet()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", addr, err)
		}
	}
}
