package policy

// firsts remembers the items of a list, to find one that is there twice. Most
// lists are so short that looking is faster than remembering.
type firsts[K comparable] struct {
	items []K
	index map[K]int
}

// add gives the index of the first item that is equal, or remembers this one
// and gives -1.
func (f *firsts[K]) add(item K) int {
	const short = 16
	switch {
	case f.index != nil:
		if i, ok := f.index[item]; ok {
			return i
		}
		f.index[item] = len(f.items)
	default:
		for i, other := range f.items {
			if other == item {
				return i
			}
		}
	}
	f.items = append(f.items, item)
	if f.index == nil && len(f.items) > short {
		f.index = make(map[K]int, 2*len(f.items))
		for i, other := range f.items {
			f.index[other] = i
		}
	}
	return -1
}
