package policy

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"go.yaml.in/yaml/v4"
)

// What a log has where a policy does not say: the level is the kernel's own
// default, warn.
const (
	defaultLevel = 4
	defaultRate  = 10 // a second
)

func logFields() []field[Log] {
	return []field[Log]{
		{key: "prefix", about: "what a line begins with. Left out: section and name", value: prefixTextShape,
			takes: "a text of 1 to 63 characters", decode: (*decoder).logPrefix},
		{key: "level", about: "of the kernel log", value: levelShape, preset: "warn",
			takes: "emerg, alert, crit, err, warn, notice, info or debug", decode: func(d *decoder, n *node, l *Log) {
				l.Level = word(d, n, logLevels(), []uint8{0, 1, 2, 3, 4, 5, 6, 7})
			}},
		{key: "rate", about: "no more lines than this", value: rateShape, preset: "10/second",
			takes: rateTakes, decode: func(d *decoder, n *node, l *Log) { l.Rate = d.rate(n) }},
		{key: "group", about: "a group of nflog, instead of the kernel log", value: groupShape,
			takes: "the number of an nflog group, from 0 to 65535", decode: func(d *decoder, n *node, l *Log) {
				if v, ok := d.number(n, 0, math.MaxUint16); ok {
					group := uint16(v)
					l.Group = &group
				}
			}},
	}
}

// logLevels are in the order of their numbers (syslog(3)).
func logLevels() []string {
	return []string{"emerg", "alert", "crit", "err", "warn", "notice", "info", "debug"}
}

func logField[T any](of func(*T) **Log) field[T] {
	return field[T]{key: "log", about: "new connections are logged once, under the name of their entry", value: logShape, preset: false,
		takes: "true, false, or a mapping with `prefix`, `level`, `rate` and `group`", decode: func(d *decoder, n *node, to *T) {
			*of(to) = d.log(n)
		}}
}

// log decodes true, false or the mapping.
func (d *decoder) log(n *node) *Log {
	n = deref(n)
	l := &Log{Place: d.at(n), Level: defaultLevel, Rate: Rate{Place: d.at(n), Count: defaultRate, Per: time.Second, Burst: defaultBurst}}
	_, notBool := strconv.ParseBool(n.Value)
	if n.Kind == yaml.ScalarNode && !isPlain(n) && notBool != nil && prefixProblem(n.Value) == "" {
		d.failAt(n, fmt.Sprintf("`log` takes true, false or a mapping, found a text; write {prefix: %s}", quote(n.Value)))
		return nil
	}
	if n.Kind != yaml.MappingNode {
		if on, _ := d.boolean(n); !on {
			return nil
		}
		return l
	}
	if !d.filled(n, "`log: true`") {
		return nil
	}
	w, ok := fields(d, n, logFields(), l)
	if ok && w.has("level") && w.has("group") {
		d.fail(w.place("level"), "`level` is of the kernel log, and `group` sends to nflog instead; take one of them out",
			Note{w.place("group"), "`group` stands here"})
	}
	return l
}

// logPrefix reads a prefix that both kernel and nft take as it is written.
func (d *decoder) logPrefix(n *node, l *Log) {
	text, ok := d.text(n)
	if !ok {
		return
	}
	if problem := prefixProblem(text); problem != "" {
		d.failAt(deref(n), problem)
		return
	}
	l.Prefix = text
}

func prefixProblem(text string) string {
	const longest = 63
	if text == "" {
		return "the prefix is empty; write one, or take the key out for the name of the entry"
	}
	for _, r := range text {
		// nft reads $ as the beginning of a variable, even in what it lists itself.
		if r < ' ' || r > '~' || r == '"' || r == '\\' || r == '$' {
			return fmt.Sprintf("the prefix %s has %q in it; it takes printable ASCII characters, without \", \\ and $", quote(text), r)
		}
	}
	if len(text) > longest {
		return fmt.Sprintf("the prefix %s has %d characters; at most %d are allowed", quote(text), len(text), longest)
	}
	return ""
}
