package adopt

import (
	"fmt"
	"strings"
)

// Mistake is an input that cannot be read: torn, or not what it is said to be.
type Mistake struct {
	File    string
	Line    int
	Message string
}

func (m *Mistake) Error() string {
	if m.Line == 0 {
		return fmt.Sprintf("%s: %s", m.File, m.Message)
	}
	return fmt.Sprintf("%s:%d: %s", m.File, m.Line, m.Message)
}

// iptablesFile reads what iptables-save and ip6tables-save print.
type iptablesFile struct {
	rules  *ruleset
	file   string
	family int    // 4 or 6
	table  string // "" between tables
	line   int
	began  int // the line that the table began at
	chains map[string]bool
}

func (f *iptablesFile) fail(format string, args ...any) error {
	return &Mistake{f.file, f.line, fmt.Sprintf(format, args...)}
}

func (f *iptablesFile) read(text string) error {
	tables := map[string]int{}
	for text != "" {
		var line string
		line, text, _ = strings.Cut(text, "\n")
		f.line++
		line = strings.TrimSpace(line)
		var err error
		switch {
		case line == "" || line[0] == '#':
		case line[0] == '*':
			if f.table != "" {
				return f.fail("the table %s begins before the table %s of line %d has its COMMIT", line[1:], f.table, f.began)
			}
			f.table, f.began, f.chains = line[1:], f.line, map[string]bool{}
			if first, again := tables[f.table]; again {
				return f.fail("the table %s is here a second time, after line %d; give each file by itself", f.table, first)
			}
			if !strings.Contains(" filter nat mangle raw security ", " "+f.table+" ") {
				return f.fail("iptables has no table %q", f.table)
			}
			tables[f.table] = f.line
		case f.table == "":
			return f.fail("%s stands outside a table; this is not what iptables-save prints", shorten(line))
		case line == "COMMIT":
			f.table = ""
		case line[0] == ':':
			err = f.declare(line[1:])
		case line[0] == '-' || line[0] == '[':
			err = f.add(line)
		default:
			return f.fail("%s is neither a chain nor a rule; this is not what iptables-save prints", shorten(line))
		}
		if err != nil {
			return err
		}
	}
	if f.table != "" {
		return f.fail("the file ends within the table %s of line %d: there is no COMMIT, so a part is missing", f.table, f.began)
	}
	if len(tables) == 0 {
		return &Mistake{f.file, 0, "there is no table in it"}
	}
	return nil
}

func shorten(s string) string {
	if len(s) > 40 {
		s = strings.ToValidUTF8(s[:40], "?") + "..."
	}
	return fmt.Sprintf("%q", s)
}

func (f *iptablesFile) chain(name string) *chain {
	return f.rules.chain([]string{"ip", "ip6"}[(f.family-4)/2], f.table, name)
}

// declare reads ":FORWARD DROP [0:0]".
func (f *iptablesFile) declare(text string) error {
	words := strings.Fields(text)
	if len(words) < 2 {
		return f.fail("a chain needs its name and its policy: %s", shorten(":"+text))
	}
	c := f.chain(words[0])
	if f.chains[words[0]] {
		return f.fail("the chain %s is declared twice", words[0])
	}
	f.chains[words[0]] = true
	c.at = origin{file: f.file, line: f.line, text: ":" + text}
	hook, built := map[string]string{"PREROUTING": "prerouting", "INPUT": "input", "FORWARD": "forward", "OUTPUT": "output", "POSTROUTING": "postrouting"}[words[0]]
	switch words[1] {
	case "ACCEPT", "DROP":
		if !built {
			return f.fail("the chain %s has a policy, and only built-in chains have one", words[0])
		}
	case "-":
		if built {
			return f.fail("the built-in chain %s has no policy", words[0])
		}
		return nil
	default:
		return f.fail("%s is no policy of a chain", shorten(words[1]))
	}
	c.base = &base{nat: f.table == "nat", hook: hook, drop: words[1] == "DROP"}
	c.base.priority = map[string]int{"raw": -300, "mangle": -150, "nat": -100, "filter": 0, "security": 50}[f.table]
	return nil
}

// add reads a rule.
func (f *iptablesFile) add(line string) error {
	rest := line
	if rest[0] == '[' { // counters
		_, after, ok := strings.Cut(rest, "] ")
		if !ok {
			return f.fail("the counters before the rule do not end: %s", shorten(line))
		}
		rest = after
	}
	words, err := splitQuoted(rest)
	if err != nil {
		return f.fail("%v: %s", err, shorten(line))
	}
	if len(words) < 2 || words[0] != "-A" && words[0] != "--append" {
		return f.fail("%s adds no rule to a chain; give what iptables-save prints", shorten(rest))
	}
	if !f.chains[words[1]] {
		return f.fail("the chain %s is not declared in the table %s", words[1], f.table)
	}
	r := &rule{box: everything(), at: origin{file: f.file, line: f.line, text: rest}}
	r.b[byFamily] = setOf(f.family)
	r.box = r.narrowed()
	p := iptablesRule{file: f, rule: r, words: words[2:]}
	if err := p.read(); err != nil {
		return err
	}
	c := f.chain(words[1])
	c.rules = append(c.rules, r)
	return nil
}

// splitQuoted splits as iptables-restore does: double quotes keep words
// together, a backslash keeps the next byte.
func splitQuoted(text string) ([]string, error) {
	var out []string
	var word []byte
	in, quoted := false, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && quoted && i+1 < len(text):
			i++
			word = append(word, text[i])
		case c == '"':
			quoted, in = !quoted, true
		case (c == ' ' || c == '\t') && !quoted:
			if in {
				out, word, in = append(out, string(word)), nil, false
			}
		default:
			word, in = append(word, c), true
		}
	}
	if quoted {
		return nil, fmt.Errorf("a quotation mark is not closed")
	}
	if in {
		out = append(out, string(word))
	}
	return out, nil
}
