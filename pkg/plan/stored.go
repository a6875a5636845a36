package plan

import (
	"bytes"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"io"
	"math"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// errNotStored is what no Store can have written.
var errNotStored = errors.New("it is not a stored snapshot")

// Store writes a snapshot down as if it had been read from a kernel: without
// places. Its generation and what was counted are not kept. Whoever loads it
// compares its Digest, which holds all that Diff looks at.
//
// First comes, as gob, all but rules, entries and elements, of which there are
// many. Then the rules of each chain: how many, and each with its entry, where
// that is another one than that of the rule before, and its body. Then the
// entries: how many, how long, each with its length. Then the elements of each
// set: how many they are, how long their records are together and each, the
// records, where each ends if they differ in length, and the runs of elements of
// one origin.
func (s *Snapshot) Store(w io.Writer) error {
	lean := *s
	lean.Generation = 0
	lean.Chains = make([]Chain, len(s.Chains))
	for i, c := range s.Chains {
		c.Origin, c.Rules = entryOf(c.Origin), nil
		lean.Chains[i] = c
	}
	lean.Counters = make([]Counter, len(s.Counters))
	for i, c := range s.Counters {
		lean.Counters[i] = Counter{Name: c.Name, Origin: entryOf(c.Origin)}
	}
	lean.Objects = make([]Object, len(s.Objects))
	for i, o := range s.Objects {
		o.Origin = entryOf(o.Origin)
		lean.Objects[i] = o
	}
	// The lines of a file have an origin each, all of one entry.
	merged := make([]uint32, len(s.Origins))
	lean.Origins = nil
	count, length := uint32(0), 0
	for i, o := range s.Origins {
		if i == 0 || s.Origins[i-1].Entry != o.Entry {
			count++
			length += 4 + len(o.Entry)
		}
		merged[i] = count - 1
	}
	lean.Sets = make([]*Set, len(s.Sets))
	for i, set := range s.Sets {
		out := *set
		out.Origin = entryOf(set.Origin)
		lean.Sets[i] = &out
	}
	if err := gob.NewEncoder(w).Encode(&lean); err != nil {
		return err
	}
	if err := s.storeRules(w); err != nil {
		return err
	}
	entries := make([]byte, 0, 8+length)
	entries = binary.BigEndian.AppendUint32(entries, count)
	entries = binary.BigEndian.AppendUint32(entries, uint32(length))
	for i, o := range s.Origins {
		if i == 0 || s.Origins[i-1].Entry != o.Entry {
			entries = binary.BigEndian.AppendUint32(entries, uint32(len(o.Entry)))
			entries = append(entries, o.Entry...)
		}
	}
	if _, err := w.Write(entries); err != nil {
		return err
	}
	for _, set := range s.Sets {
		if err := set.Elements.store(w, merged); err != nil {
			return err
		}
	}
	return nil
}

func entryOf(o ruleset.Origin) ruleset.Origin { return ruleset.Origin{Entry: o.Entry} }

// store writes elements, with other origins.
func (e *Elements) store(w io.Writer, origins []uint32) error {
	n, size := e.Len(), e.uniform()
	var scratch []byte
	for _, x := range []int{n, len(e.records), size} {
		scratch = binary.BigEndian.AppendUint32(scratch, uint32(x))
	}
	_, err := w.Write(scratch)
	if err == nil {
		_, err = w.Write(e.records)
	}
	scratch = scratch[:0]
	put := func(number uint32) {
		scratch = binary.BigEndian.AppendUint32(scratch, number)
		if len(scratch) >= 1<<12 && err == nil {
			_, err = w.Write(scratch)
			scratch = scratch[:0]
		}
	}
	if size == 0 {
		for _, end := range e.ends {
			put(end)
		}
	}
	for i := 0; i < n; {
		o := stored(origins, e.origins[i])
		for i++; i < n && stored(origins, e.origins[i]) == o; i++ {
		}
		put(uint32(i))
		put(o)
	}
	if err == nil {
		_, err = w.Write(scratch)
	}
	return err
}

func stored(origins []uint32, o uint32) uint32 {
	if o == NoOrigin {
		return o
	}
	return origins[o]
}

// LoadStored reads what Store has written. Any text is safe to read. The
// snapshot shares it.
func LoadStored(text []byte) (*Snapshot, error) {
	s, r := &Snapshot{}, bytes.NewReader(text)
	if err := gob.NewDecoder(r).Decode(s); err != nil {
		return nil, err
	}
	text, whole := s.loadRules(text[len(text)-r.Len():])
	if whole {
		text, whole = s.loadOrigins(text)
	}
	if !whole {
		return nil, errNotStored
	}
	for _, set := range s.Sets {
		if set == nil || set.Elements.KeyLen < 0 {
			return nil, errNotStored
		}
		if text, whole = set.Elements.load(text, uint32(len(s.Origins))); !whole {
			return nil, errNotStored
		}
	}
	return s, nil
}

// storeRules writes the rules of all chains.
func (s *Snapshot) storeRules(w io.Writer) error {
	var out []byte
	entry := ""
	for i := range s.Chains {
		rules := s.Chains[i].Rules
		out = binary.AppendUvarint(out, uint64(len(rules)))
		for j := range rules {
			r := &rules[j]
			if r.Origin.Entry == entry {
				out = binary.AppendUvarint(out, 0)
			} else {
				entry = r.Origin.Entry
				out = append(binary.AppendUvarint(out, uint64(len(entry))+1), entry...)
			}
			out = append(binary.AppendUvarint(out, uint64(len(r.Body))), r.Body...)
			if len(out) >= 1<<16 {
				if _, err := w.Write(out); err != nil {
					return err
				}
				out = out[:0]
			}
		}
	}
	_, err := w.Write(out)
	return err
}

// loadRules reads what storeRules has written and gives what follows.
func (s *Snapshot) loadRules(text []byte) (rest []byte, whole bool) {
	number := func() (uint64, bool) {
		n, size := binary.Uvarint(text)
		if size <= 0 || n > uint64(len(text)) { // of nothing there are more than bytes
			return 0, false
		}
		text = text[size:]
		return n, n <= uint64(len(text))
	}
	entry := ""
	for i := range s.Chains {
		n, ok := number()
		if !ok {
			return nil, false
		}
		if n > 0 {
			s.Chains[i].Rules = make([]Rule, n)
		}
		for j := range s.Chains[i].Rules {
			if n, ok = number(); !ok {
				return nil, false
			}
			if n > 0 {
				entry, text = string(text[:n-1]), text[n-1:]
			}
			if n, ok = number(); !ok {
				return nil, false
			}
			s.Chains[i].Rules[j] = Rule{text[:n:n], ruleset.Origin{Entry: entry}}
			text = text[n:]
		}
	}
	return text, true
}

// loadOrigins reads the entries and gives what follows.
func (s *Snapshot) loadOrigins(text []byte) (rest []byte, whole bool) {
	if len(text) < 8 {
		return nil, false
	}
	count, length := size32(text), size32(text[4:])
	if text = text[8:]; len(text) < length || length/4 < count {
		return nil, false
	}
	entries := string(text[:length]) // one for all
	s.Origins = make([]ruleset.Origin, count)
	at := 0
	for i := range s.Origins {
		if length-at < 4 {
			return nil, false
		}
		size := size32(text[at:])
		if at += 4; length-at < size {
			return nil, false
		}
		s.Origins[i].Entry = entries[at : at+size]
		at += size
	}
	return text[length:], at == length
}

// size32 reads a size, of which none has more than 31 bits.
func size32(text []byte) int { return int(min(binary.BigEndian.Uint32(text), math.MaxInt32)) }

// load reads elements and gives what follows. It takes none that At could not
// give.
func (e *Elements) load(text []byte, origins uint32) (rest []byte, whole bool) {
	whole = true
	next := func() uint32 {
		if whole = whole && len(text) >= 4; !whole {
			return 0
		}
		number := binary.BigEndian.Uint32(text)
		text = text[4:]
		return number
	}
	nextSize := func() int { return int(min(next(), math.MaxInt32)) }
	n, length, size := nextSize(), nextSize(), nextSize()
	// A record has a byte at least, so no more are made room for than there are.
	if !whole || length > len(text) || n > length {
		return nil, false
	}
	e.records, text = text[:length:length], text[length:]
	e.ends, e.origins = make([]uint32, n), make([]uint32, n)
	start := 0
	for i := range e.ends {
		end := start + size
		if size == 0 {
			end = nextSize()
		}
		if end < start || end > length || end-start < e.KeyLen {
			return nil, false
		}
		e.ends[i], start = uint32(end), end
	}
	for i := 0; i < n; {
		to, o := nextSize(), next()
		if to <= i || to > n || o >= origins && o != NoOrigin {
			return nil, false
		}
		for ; i < to; i++ {
			e.origins[i] = o
		}
	}
	return text, whole
}
