package adopt

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/policy"
)

// text writes the policy, and sets the lines of entries.
func (d *draft) text(findings []Finding, inputs []Input) []byte {
	var lines []string
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	var from []string
	for _, in := range inputs {
		from = append(from, filepath.Base(in.Name))
	}
	add("# Made by ipmasq import from %s. Behind each entry stands the line that it comes from.", strings.Join(from, ", "))
	add("version: 1")
	if len(d.zones) > 0 {
		add("\nzones:")
		lines = append(lines, d.zones...)
	}
	if len(d.sets) > 0 {
		add("\nsets:")
		for _, s := range d.sets {
			var list []string
			for _, x := range s.list {
				list = append(list, quoteAddress(x.text()))
			}
			add("  %s: [%s]", quoteWord(s.name), strings.Join(list, ", "))
		}
	}
	last := ""
	for _, e := range d.entries {
		if e.section != last {
			last = e.section
			add("\n%s:", last)
		}
		add("  - %s", e.text())
		e.line = lineCount(lines)
	}
	for i, s := range []*section{&d.rules, &d.input} {
		if !s.present || i == 0 && s.def == "drop" && len(s.entries) == 0 && len(s.defAt) == 0 {
			continue
		}
		add("\n%s:", []string{"forward", "input"}[i])
		add("  default: %s%s", s.def, comment(s.defAt))
		if len(s.entries) > 0 {
			add("  rules:")
		}
		for _, e := range s.entries {
			add("    - %s", e.text())
			e.line = lineCount(lines)
		}
	}
	if len(d.gateway) > 0 {
		add("\ngateway:")
		lines = append(lines, d.gateway...)
	}
	if len(findings) > 0 {
		add("\n# What this policy does not say as the input did:")
		for _, f := range findings {
			where := ""
			if f.File != "" {
				where = filepath.Base(f.File) + fmt.Sprintf(":%d: ", f.Line)
			}
			add("# %s: %s%s", f.Level, where, printable(f.Message))
			if f.Rule != "" {
				add("#     %s", printable(f.Rule))
			}
		}
	}
	return []byte(strings.Join(lines, "\n") + "\n")
}

func lineCount(lines []string) int {
	n := 0
	for _, l := range lines {
		n += 1 + strings.Count(l, "\n")
	}
	return n
}

// printable keeps what stands in a comment to one line that YAML takes.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == 0x2028 || r == 0x2029 || r == 0xfeff || r == 0xfffd || r > 0xffff {
			return '?'
		}
		return r
	}, text)
}

// text writes an entry on one line.
func (e *entry) text() string {
	keys := []string{"name: " + quoteName(e.name)}
	for _, f := range e.fields {
		keys = append(keys, f.key+": "+f.value)
	}
	text := "{" + strings.Join(keys, ", ") + "}" + comment(e.at)
	if e.note != "" {
		text += " # " + e.note
	}
	return text
}

// quoteName quotes names that YAML would read as numbers or words.
func quoteName(name string) string { return quoteWord(name) }

// comment names lines of the input.
func comment(at []origin) string {
	var out []string
	last := ""
	for _, o := range at {
		if o.file == "" {
			continue
		}
		text := fmt.Sprintf("%s:%d", filepath.Base(o.file), o.line)
		if filepath.Base(o.file) == last {
			text = fmt.Sprint(o.line)
		}
		if !slices.Contains(out, text) && !slices.Contains(out, fmt.Sprintf("%s:%d", filepath.Base(o.file), o.line)) {
			out = append(out, text)
		}
		last = filepath.Base(o.file)
		if len(out) == 12 {
			out = append(out, "...")
			break
		}
	}
	if len(out) == 0 {
		return ""
	}
	return " # " + printable(strings.Join(out, ", "))
}

// settle has the policy checked as `ipmasq check` does. What the language
// refuses is left out and listed; nothing that closes is.
func (m *importer) settle() error {
	const rounds = 200
	for range rounds {
		text := m.policy.text(nil, m.inputs)
		p, err := policy.Parse("policy.yaml", text)
		if err == nil {
			_, err = compile.Compile(p, compile.Facts{})
		}
		if err == nil {
			return nil
		}
		var mistakes policy.Errors
		if !errors.As(err, &mistakes) {
			return err
		}
		gone := false
		for _, mistake := range mistakes {
			e := m.policy.at(mistake.Line)
			if e == nil {
				continue
			}
			never := strings.Contains(mistake.Message, "never") || strings.Contains(mistake.Message, "can match nothing")
			if e.drops && !never {
				return fmt.Errorf("import made a rule that the language refuses, and cannot do without it: %s (from %s); this is a defect of ipmasq", mistake.Message, e.at[0].place())
			}
			level := Error
			if never {
				level = Note
			}
			m.listed(level, e.at[0], []box{e.box}, "it is left out: %s", mistake.Message)
			m.policy.remove(e)
			gone = true
			break
		}
		if !gone {
			return fmt.Errorf("import made a policy that the language refuses: %v; this is a defect of ipmasq\n%s", err, text)
		}
	}
	return errors.New("import made a policy that the language refuses in too many places; this is a defect of ipmasq")
}

func (d *draft) at(line int) *entry {
	for _, list := range [][]*entry{d.entries, d.rules.entries, d.input.entries} {
		for _, e := range list {
			if e.line == line {
				return e
			}
		}
	}
	return nil
}

func (d *draft) remove(gone *entry) {
	is := func(e *entry) bool { return e == gone }
	d.entries = slices.DeleteFunc(d.entries, is)
	d.rules.entries = slices.DeleteFunc(d.rules.entries, is)
	d.input.entries = slices.DeleteFunc(d.input.entries, is)
}
