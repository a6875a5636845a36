package foreign

import "fmt"

// allMarks are all bits of a mark.
const allMarks = ^uint32(0)

// xtMark gives the bits that a target of iptables sets in the marks of packets and
// of flows: those of the mask, and those that it turns round. What is copied from
// the one mark to the other is nobody's to set.
func xtMark(name string, revision byte, info []byte) (packet, flow uint32) {
	const set = 0 // XT_CONNMARK_SET, XT_MARK_SET
	switch {
	case name == "MARK" && revision >= 2 && len(info) >= 8:
		return native32(info) | native32(info[4:]), 0
	case name == "CONNMARK" && revision == 1 && len(info) >= 13 && info[12] == set,
		name == "CONNMARK" && revision >= 2 && len(info) >= 15 && info[14] == set:
		return 0, native32(info) | native32(info[4:])
	}
	return 0, 0
}

// marking says what a rule does to marks, as a comment.
func (r *Rule) marking() (words []string) {
	for _, x := range []struct {
		of   string
		bits uint32
	}{{"packets", r.Marks}, {"flows", r.FlowMarks}} {
		if x.bits != 0 {
			words = append(words, fmt.Sprintf("# sets %#x of the mark of %s", x.bits, x.of))
		}
	}
	return words
}
