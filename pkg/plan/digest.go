package plan

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
)

// Digest names what a snapshot holds, counters' values and places aside. Two
// normalized snapshots have equal digests just where Diff finds nothing.
func (s *Snapshot) Digest() string {
	d := &digester{hash: sha256.New()}
	d.number(len(s.Chains))
	for i := range s.Chains {
		c := &s.Chains[i]
		d.text(c.Name)
		d.text(c.Attributes)
		d.number(len(c.Rules))
		for j := range c.Rules {
			d.text(c.Rules[j].Origin.Entry)
			d.number(len(c.Rules[j].Body))
			d.hash.Write(c.Rules[j].Body)
		}
	}
	d.number(len(s.Sets))
	for _, set := range s.Sets {
		d.text(set.Name)
		d.text(set.Attributes)
		d.elements(s, set)
	}
	d.number(len(s.Counters))
	for i := range s.Counters {
		d.text(s.Counters[i].Name)
	}
	d.number(len(s.Objects))
	for i := range s.Objects {
		d.text(s.Objects[i].String())
		d.text(s.Objects[i].Attributes)
	}
	return hex.EncodeToString(d.hash.Sum(nil)[:16])
}

// digester hashes values so that no two lists of them look alike: each comes
// with its length.
type digester struct {
	hash    hash.Hash
	scratch []byte
}

func (d *digester) number(n int) {
	d.scratch = binary.BigEndian.AppendUint64(d.scratch[:0], uint64(n))
	d.hash.Write(d.scratch)
}

func (d *digester) text(t string) {
	d.scratch = binary.BigEndian.AppendUint64(d.scratch[:0], uint64(len(t)))
	d.scratch = append(d.scratch, t...)
	d.hash.Write(d.scratch)
}

// uniform is the length of all records, 0 where they differ.
func (e *Elements) uniform() int {
	if e.Len() == 0 {
		return 0
	}
	size := int(e.ends[0])
	for i, end := range e.ends {
		if int(end) != (i+1)*size {
			return 0
		}
	}
	return size
}

// elements hashes the records as they lie, then where each ends, then the
// runs of elements that one entry has.
func (d *digester) elements(s *Snapshot, set *Set) {
	e := &set.Elements
	d.number(e.Len())
	d.number(len(e.records))
	d.hash.Write(e.records)
	const chunk = 1024
	size := e.uniform()
	d.number(size)
	for i := 0; size == 0 && i < len(e.ends); i += chunk {
		d.scratch = d.scratch[:0]
		for _, end := range e.ends[i:min(i+chunk, len(e.ends))] {
			d.scratch = binary.BigEndian.AppendUint32(d.scratch, end)
		}
		d.hash.Write(d.scratch)
	}
	for i := 0; i < e.Len(); {
		start, name := i, s.ElementOrigin(set, i).Entry
		for i < e.Len() && (e.origins[i] == e.origins[start] || s.ElementOrigin(set, i).Entry == name) {
			i++
		}
		d.number(i - start)
		d.text(name)
	}
}
