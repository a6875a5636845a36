//go:build linux

package nfnetlink

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
	"golang.org/x/sys/unix"
)

// tableUserdata is NFTA_TABLE_USERDATA, which golang.org/x/sys/unix lacks.
const tableUserdata = 6

func TestMain(m *testing.M) { lab.Main(m) }

// dial opens a socket on a host of its own. Its namespace is the socket's, so
// the test may use it anywhere.
func dial(t *testing.T) (*Conn, *lab.Host) {
	t.Helper()
	h := lab.New(t).Host("gateway")
	lab.Require(t, lab.NFTables())
	var c *Conn
	err := h.Do(func() (err error) {
		c, err = Dial()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c, h
}

func addTable(b *Batch, name string) int {
	n := b.Message(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, unix.NFPROTO_INET)
	b.String(unix.NFTA_TABLE_NAME, name)
	return n
}

func addChain(b *Batch, table, name string) int {
	n := b.Message(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, unix.NFPROTO_INET)
	b.String(unix.NFTA_CHAIN_TABLE, table)
	b.String(unix.NFTA_CHAIN_NAME, name)
	return n
}

func addRule(b *Batch, table, chain string) int {
	n := b.Message(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND, unix.NFPROTO_INET)
	b.String(unix.NFTA_RULE_TABLE, table)
	b.String(unix.NFTA_RULE_CHAIN, chain)
	return n
}

func generationOf(t *testing.T, c *Conn) uint32 {
	t.Helper()
	g, err := c.Generation()
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func tables(t *testing.T, c *Conn) []string {
	t.Helper()
	var names []string
	err := c.Dump(Nftables(unix.NFT_MSG_GETTABLE), unix.NFPROTO_INET, nil, func(m Message) error {
		for a := Attributes(m.Attributes()); a.Next(); {
			if a.Type() == unix.NFTA_TABLE_NAME {
				names = append(names, a.String())
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestGenerations(t *testing.T) {
	t.Parallel()
	c, _ := dial(t)
	first := generationOf(t, c)
	if first == 0 {
		t.Error("generation 0")
	}
	if g, err := c.Commit(&Batch{}, first); err != nil || g != first {
		t.Errorf("an empty batch: %d, %v", g, err)
	}
	b := &Batch{}
	addTable(b, "x")
	if err := c.DryRun(b, first); err != nil {
		t.Fatal(err)
	}
	if g := generationOf(t, c); g != first || len(tables(t, c)) != 0 {
		t.Errorf("a dry run made generation %d of %d, tables %v", g, first, tables(t, c))
	}
	second, err := c.Commit(b, first)
	if err != nil || second == first || second != generationOf(t, c) {
		t.Errorf("commit gave generation %d after %d, %v; now it is %d", second, first, err, generationOf(t, c))
	}
	if got := tables(t, c); len(got) != 1 || got[0] != "x" {
		t.Errorf("tables %v", got)
	}
	b = &Batch{}
	addTable(b, "y")
	for _, run := range []func() error{
		func() error { _, err := c.Commit(b, first); return err },
		func() error { return c.DryRun(b, first) },
	} {
		if err := run(); !errors.Is(err, ErrStale) {
			t.Errorf("got %v, want ErrStale", err)
		}
	}
	if got := tables(t, c); len(got) != 1 {
		t.Errorf("a stale batch made tables %v", got)
	}
	// The same batch again, of the present generation, then of any.
	if _, err := c.Commit(b, second); err != nil {
		t.Error(err)
	}
	if _, err := c.Commit(b, 0); err != nil {
		t.Error(err)
	}
	if got := tables(t, c); len(got) != 2 {
		t.Errorf("tables %v", got)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	c, _ := dial(t)
	b := &Batch{}
	addTable(b, "x")
	bad := addChain(b, "nowhere", "c")
	addChain(b, "x", "c")
	worse := addRule(b, "x", "nowhere")
	for _, run := range []func() error{
		func() error { return c.DryRun(b, 0) },
		func() error { _, err := c.Commit(b, 0); return err },
	} {
		err := run()
		var e *Error
		if !errors.As(err, &e) || e.Message != bad || !errors.Is(err, unix.ENOENT) {
			t.Fatalf("got %v (%+v), want ENOENT for message %d", err, e, bad)
		}
		// The table's name is the first attribute.
		if want := unix.NLMSG_HDRLEN + sizeofGenmsg; e.Offset != want {
			t.Errorf("offset %d, want %d", e.Offset, want)
		}
		joined, ok := err.(interface{ Unwrap() []error })
		if !ok || len(joined.Unwrap()) != 2 {
			t.Fatalf("%v: want two errors", err)
		}
		if !errors.As(joined.Unwrap()[1], &e) || e.Message != worse {
			t.Errorf("the second error is %+v, want message %d", e, worse)
		}
		// The chain's name is the second.
		message := b.MessageBytes(e.Message)
		at := Attributes(message[e.Offset:])
		if !at.Next() || at.Type() != unix.NFTA_RULE_CHAIN || at.String() != "nowhere" {
			t.Errorf("offset %d is attribute %d", e.Offset, at.Type())
		}
	}
	if got := tables(t, c); len(got) != 0 {
		t.Errorf("a refused batch made tables %v", got)
	}
	err := c.Get(Nftables(unix.NFT_MSG_GETTABLE), unix.NFPROTO_INET, func(e *Encoder) {
		e.String(unix.NFTA_TABLE_NAME, "nowhere")
	}, func(Message) error { return nil })
	if !errors.Is(err, unix.ENOENT) {
		t.Errorf("get: %v", err)
	}
	generationOf(t, c) // nothing is left in the socket
}

// TestManyErrors guards against waiting for an answer that no longer fits the
// receive buffer.
func TestManyErrors(t *testing.T) {
	t.Parallel()
	c, _ := dial(t)
	b := &Batch{}
	for range 30_000 {
		addChain(b, "nowhere", "c")
	}
	_, err := c.Commit(b, generationOf(t, c))
	var e *Error
	if !errors.As(err, &e) || e.Message != 0 || e.Errno != unix.ENOENT {
		t.Fatalf("got %+v, want ENOENT for message 0", e)
	}
	generationOf(t, c)
	b = &Batch{}
	addTable(b, "x")
	if _, err := c.Commit(b, 0); err != nil {
		t.Errorf("the socket is spoiled: %v", err)
	}
}

// TestBigBatch sends more than a socket takes unasked: 212,992 bytes.
func TestBigBatch(t *testing.T) {
	t.Parallel()
	c, _ := dial(t)
	b := big(1 << 20)
	if b.Len() < 1<<20 {
		t.Fatalf("%d bytes", b.Len())
	}
	_, err := c.Commit(b, 0)
	if errors.Is(err, unix.EMSGSIZE) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	err = c.Dump(Nftables(unix.NFT_MSG_GETRULE), unix.NFPROTO_INET, nil, func(Message) error {
		n++
		return nil
	})
	if err != nil || n != b.Messages()-2 {
		t.Errorf("%d rules of %d, %v", n, b.Messages()-2, err)
	}
}

// big is a batch of at least so many bytes.
func big(size int) *Batch {
	b := &Batch{}
	b.Reserve(size)
	addTable(b, "x")
	addChain(b, "x", "c")
	for b.Len() < size {
		addRule(b, "x", "c")
		b.Bytes(unix.NFTA_RULE_USERDATA, make([]byte, 200))
	}
	return b
}

// TestTooBig sends as somebody who may not enlarge the buffer past the
// system's limit, and wants to be told whose limit it is.
func TestTooBig(t *testing.T) {
	t.Parallel()
	c, _ := dial(t)
	done := make(chan error)
	go func() {
		// Not unlocked: the thread ends without its capabilities.
		runtime.LockOSThread()
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err := unix.Capset(&header, &none[0]); err != nil {
			done <- fmt.Errorf("drop capabilities: %w", err)
			return
		}
		for size := 1 << 20; size <= 1<<26; size <<= 1 {
			if _, err := c.Commit(big(size), 0); errors.Is(err, unix.EMSGSIZE) {
				done <- err
				return
			}
		}
		done <- nil
	}()
	err := <-done
	if err == nil {
		t.Skip("this system lets anybody send 64 MiB")
	}
	if !errors.Is(err, unix.EMSGSIZE) || !strings.Contains(err.Error(), "net.core.wmem_max") {
		t.Errorf("got %v", err)
	}
	if got := tables(t, c); len(got) != 0 {
		t.Errorf("what could not be sent made tables %v", got)
	}
}

func TestOverflow(t *testing.T) {
	t.Parallel()
	c, _ := dial(t)
	for name, write := range map[string]func(*Batch){
		"flat": func(b *Batch) { b.Bytes(tableUserdata, make([]byte, 0xffff-3)) },
		"nested": func(b *Batch) {
			n := b.Open(tableUserdata)
			for b.Room(n) >= 0 {
				b.Uint64(1, 1)
			}
			b.Close(n)
		},
	} {
		b := &Batch{}
		addTable(b, "x")
		write(b)
		if _, err := c.Commit(b, 0); err == nil || !strings.Contains(err.Error(), "65535") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	b := &Batch{}
	addTable(b, "x")
	n := b.Open(1)
	b.Bytes(1, make([]byte, 65532-8))
	if b.Room(n) != 3 {
		t.Errorf("room for %d more", b.Room(n))
	}
	b.Close(n)
	if b.overflown {
		t.Error("65,532 bytes are too many")
	}
}

// TestInterrupted changes the ruleset in the middle of a dump.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	c, h := dial(t)
	if _, err := c.Commit(big(200<<10), 0); errors.Is(err, unix.EMSGSIZE) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	var other *Conn
	if err := h.Do(func() (err error) { other, err = Dial(); return err }); err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	dump := func(yield func(Message) error) error {
		return c.Dump(Nftables(unix.NFT_MSG_GETRULE), unix.NFPROTO_INET, nil, yield)
	}
	n := 0
	err := dump(func(Message) error {
		if n++; n > 1 {
			return nil
		}
		b := &Batch{}
		addTable(b, "y")
		_, err := other.Commit(b, 0)
		return err
	})
	if !errors.Is(err, ErrInterrupted) {
		t.Errorf("got %v after %d rules, want ErrInterrupted", err, n)
	}
	// What the caller says goes before, and the rest of the dump is not left
	// in the socket.
	mine := errors.New("mine")
	if err := dump(func(Message) error { return mine }); !errors.Is(err, mine) {
		t.Errorf("got %v", err)
	}
	if err := dump(func(Message) error { return nil }); err != nil {
		t.Errorf("an undisturbed dump: %v", err)
	}
}

// TestUnprivileged is refused as a whole.
func TestUnprivileged(t *testing.T) {
	t.Parallel()
	c, _ := dial(t)
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err := unix.Capset(&header, &none[0]); err != nil {
			done <- err
			return
		}
		b := &Batch{}
		addTable(b, "x")
		_, err := c.Commit(b, 0)
		done <- err
	}()
	var e *Error
	if err := <-done; !errors.As(err, &e) || e.Errno != unix.EPERM || e.Message != -1 {
		t.Errorf("got %v (%+v), want EPERM for no message", err, e)
	}
	if !errors.Is(e, os.ErrPermission) {
		t.Error("EPERM is no os.ErrPermission")
	}
}
