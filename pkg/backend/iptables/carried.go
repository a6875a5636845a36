package iptables

import (
	"bytes"
	"fmt"
	"strconv"

	"github.com/ipmasq/ipmasq/pkg/plan"
)

// ip6tables-nft-restore takes counters and forgets them, in 1.8.9 at least. So
// what a rule of IPv6 had counted when it was written stands at the end of its
// comment, and it counts on from there.

// longestComment is what the kernel takes.
const longestComment = 255

// carried moves what the rules of a file have counted into their comments. What
// counts for nothing needs none, and where there is no room it begins anew.
func carried(file []byte) []byte {
	out := make([]byte, 0, len(file))
	for line := range bytes.Lines(file) {
		count, rule := countOf(line)
		begin, end := commentIn(rule)
		if count == (plan.Count{}) || end < 0 {
			out = append(out, rule...)
			continue
		}
		note := fmt.Sprintf(" =%d:%d", count.Packets, count.Bytes)
		if _, counter := uncomment(commentOf(string(rule))); counter == "" || end-begin+len(note) > longestComment {
			note = ""
		}
		out = append(append(append(out, rule[:end]...), note...), rule[end:]...)
	}
	return out
}

// uncarried adds what the comment of a rule says to what it has counted since,
// and gives the rule without that.
func uncarried(count plan.Count, rule []byte) (plan.Count, []byte) {
	if !bytes.Contains(rule, []byte(" =")) {
		return count, rule
	}
	begin, end := commentIn(rule)
	if end < 0 {
		return count, rule
	}
	at := bytes.LastIndex(rule[begin:end], []byte(" ="))
	if at < 0 {
		return count, rule
	}
	at += begin
	p, b, _ := bytes.Cut(rule[at+2:end], []byte{':'})
	packets, err := strconv.ParseUint(string(p), 10, 64)
	size, err2 := strconv.ParseUint(string(b), 10, 64)
	if err != nil || err2 != nil {
		return count, rule
	}
	without := append(bytes.Clone(rule[:at]), rule[end:]...)
	if _, counter := uncomment(commentOf(string(without))); counter == "" {
		return count, rule // an entry's name may look like that
	}
	return plan.Count{Packets: count.Packets + packets, Bytes: count.Bytes + size}, without
}

// commentIn says where the text of a rule's comment in quotes begins and ends:
// one with a counter has them. The end is -1 where there is none.
func commentIn(rule []byte) (begin, end int) {
	option := []byte(`--comment "`)
	begin = bytes.Index(rule, option)
	if begin < 0 {
		return 0, -1
	}
	begin += len(option)
	for i := begin; i < len(rule); i++ {
		switch rule[i] {
		case '\\':
			i++
		case '"':
			return begin, i
		}
	}
	return 0, -1
}
