package top

// memory is what is kept of flows, found by their identity. Go's maps would
// take twice the room.
type memory struct {
	chunks [][]seen // all but the last are full
	n      int
	slots  []uint32 // by identity, and on from there: where in chunks, plus 1; 0 is nothing
}

const chunk = 8192

func (m *memory) at(i int) *seen { return &m.chunks[i/chunk][i%chunk] }

// find gives what is known of a flow, or nil.
func (m *memory) find(id uint64) *seen {
	if m.n == 0 {
		return nil
	}
	mask := uint64(len(m.slots) - 1)
	for i := id & mask; m.slots[i] != 0; i = (i + 1) & mask {
		if s := m.at(int(m.slots[i] - 1)); s.id == id {
			return s
		}
	}
	return nil
}

// add takes in a flow that is not known.
func (m *memory) add(id uint64) *seen {
	if (m.n+1)*4 > len(m.slots)*3 {
		m.index(max(1024, 2*len(m.slots)))
	}
	if m.n == len(m.chunks)*chunk {
		m.chunks = append(m.chunks, make([]seen, chunk))
	}
	m.n++
	m.insert(id, m.n-1)
	s := m.at(m.n - 1)
	*s = seen{id: id}
	return s
}

// sweep forgets flows.
func (m *memory) sweep(forget func(*seen) bool) {
	before := m.n
	for i := 0; i < m.n; {
		if s := m.at(i); forget(s) {
			m.n--
			*s = *m.at(m.n)
		} else {
			i++
		}
	}
	if m.n == before {
		return
	}
	m.chunks = m.chunks[:(m.n+chunk-1)/chunk]
	clear(m.chunks[len(m.chunks):cap(m.chunks)])
	size := len(m.slots)
	for size > 1024 && m.n*4 < size {
		size /= 2
	}
	m.index(size)
}

func (m *memory) index(size int) {
	if len(m.slots) == size {
		clear(m.slots)
	} else {
		m.slots = make([]uint32, size)
	}
	for i := range m.n {
		m.insert(m.at(i).id, i)
	}
}

func (m *memory) insert(id uint64, at int) {
	mask := uint64(len(m.slots) - 1)
	i := id & mask
	for m.slots[i] != 0 {
		i = (i + 1) & mask
	}
	m.slots[i] = uint32(at + 1)
}
