package adopt

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// nftFile reads what `nft -j list ruleset` prints.
type nftFile struct {
	rules *ruleset
	file  string
	text  []byte
	sets  map[string]*nftSet // by family, table and name
	terse map[string]bool    // chains whose rules iptables has made, by key
}

// nftSet is a named set or map.
type nftSet struct {
	Family, Table, Name string
	Type                any
	Map                 any
	Flags               flagList
	Elem                []json.RawMessage
}

type flagList []string

// UnmarshalJSON takes a word, or a list of words.
func (f *flagList) UnmarshalJSON(text []byte) error {
	if len(text) > 0 && text[0] == '"' {
		var one string
		err := json.Unmarshal(text, &one)
		*f = flagList{one}
		return err
	}
	return json.Unmarshal(text, (*[]string)(f))
}

type nftChain struct {
	Family, Table, Name, Type, Hook, Policy string
	Prio                                    json.RawMessage
}

type nftRule struct {
	Family, Table, Chain, Comment string
	Handle                        int
	Expr                          []json.RawMessage
}

// object is one member of the list, and the line that it begins at.
type object struct {
	line int
	kind string
	text json.RawMessage
}

func (f *nftFile) fail(line int, format string, args ...any) error {
	return &Mistake{f.file, line, fmt.Sprintf(format, args...)}
}

func (f *nftFile) lineAt(offset int64) int {
	return 1 + bytes.Count(f.text[:min(offset, int64(len(f.text)))], []byte("\n"))
}

// objects splits the file. What is torn fails where it ends.
func (f *nftFile) objects() ([]object, error) {
	d := json.NewDecoder(bytes.NewReader(f.text))
	torn := func(err error) error {
		line := f.lineAt(d.InputOffset())
		if int(d.InputOffset()) >= len(bytes.TrimSpace(f.text)) || strings.Contains(err.Error(), "EOF") {
			return f.fail(f.lineAt(int64(len(bytes.TrimRight(f.text, "\n")))), "the file ends in the middle: a part is missing")
		}
		return f.fail(line, "this is no JSON: %v", err)
	}
	for _, want := range []any{json.Delim('{'), "nftables", json.Delim('[')} {
		t, err := d.Token()
		if err != nil {
			return nil, torn(err)
		}
		if t != want {
			return nil, f.fail(f.lineAt(d.InputOffset()), "this is not what nft -j list ruleset prints: it begins with {\"nftables\": [")
		}
	}
	var out []object
	for d.More() {
		at := d.InputOffset()
		for at < int64(len(f.text)) && strings.IndexByte(", \t\r\n", f.text[at]) >= 0 {
			at++
		}
		var member map[string]json.RawMessage
		if err := d.Decode(&member); err != nil {
			return nil, torn(err)
		}
		for kind, text := range member {
			out = append(out, object{f.lineAt(at), kind, text})
		}
	}
	for range 2 {
		if _, err := d.Token(); err != nil {
			return nil, torn(err)
		}
	}
	return out, nil
}

func (f *nftFile) read() error {
	list, err := f.objects()
	if err != nil {
		return err
	}
	f.sets, f.terse = map[string]*nftSet{}, map[string]bool{}
	if !slices.ContainsFunc(list, func(o object) bool { return o.kind == "table" || o.kind == "metainfo" }) {
		return f.fail(1, "there is no table in it")
	}
	for _, o := range list {
		switch o.kind {
		case "add", "insert", "delete", "flush", "create", "replace":
			return f.fail(o.line, "this is a list of commands (%s); give what nft -j list ruleset prints", o.kind)
		case "chain":
			if err := f.chain(o); err != nil {
				return err
			}
		case "set", "map":
			s := &nftSet{}
			if err := json.Unmarshal(o.text, s); err != nil {
				return f.fail(o.line, "%s: %v", o.kind, err)
			}
			f.sets[s.Family+" "+s.Table+" "+s.Name] = s
		}
	}
	for _, o := range list {
		if o.kind != "rule" {
			continue
		}
		if err := f.rule(o); err != nil {
			return err
		}
	}
	return nil
}

func (f *nftFile) chain(o object) error {
	var c nftChain
	if err := json.Unmarshal(o.text, &c); err != nil {
		return f.fail(o.line, "chain: %v", err)
	}
	switch c.Family {
	case "ip", "ip6", "inet":
	default: // bridge, arp, netdev are not what a policy is about
		if c.Hook != "" && c.Family != "arp" {
			f.rules.chain(c.Family, c.Table, c.Name).foreign = "the family " + c.Family
		}
		return nil
	}
	k := f.rules.chain(c.Family, c.Table, c.Name)
	k.at = origin{file: f.file, line: o.line, text: fmt.Sprintf("chain %s %s %s", c.Family, c.Table, c.Name)}
	if c.Hook == "" {
		return nil
	}
	k.base = &base{nat: c.Type == "nat", hook: c.Hook, drop: c.Policy == "drop"}
	if err := json.Unmarshal(c.Prio, &k.base.priority); err != nil {
		return f.fail(o.line, "chain %s has no priority", c.Name)
	}
	k.at.text += fmt.Sprintf(" { hook %s policy %s }", c.Hook, c.Policy)
	return nil
}

func (f *nftFile) rule(o object) error {
	var n nftRule
	if err := json.Unmarshal(o.text, &n); err != nil {
		return f.fail(o.line, "rule: %v", err)
	}
	key := n.Family + " " + n.Table + " " + n.Chain
	c := f.rules.chains[key]
	if c == nil {
		switch n.Family {
		case "ip", "ip6", "inet":
			return f.fail(o.line, "there is no chain %s in the table %s %s", n.Chain, n.Family, n.Table)
		}
		return nil
	}
	r := nftReader{file: f, family: n.Family, table: n.Table}
	at := origin{file: f.file, line: o.line, comment: n.Comment}
	first := box(everything())
	first.b[byFamily] = c.families
	r.partial = []partial{{box: first.narrowed()}}
	for _, text := range n.Expr {
		s, err := statementOf(text)
		if err != nil {
			return f.fail(o.line, "rule with handle %d: %v", n.Handle, err)
		}
		r.shown = append(r.shown, s.shown())
		r.statement(s)
	}
	at.text = strings.Join(r.shown, " ")
	if n.Handle > 0 {
		at.text += fmt.Sprintf(" # handle %d of %s %s %s", n.Handle, n.Family, n.Table, n.Chain)
	}
	r.finish()
	for _, name := range r.changing {
		f.rules.remarks = append(f.rules.remarks, remark{at, "the set " + name + " changes while the rules are in force; the policy has what was in it"})
	}
	for _, x := range r.out {
		x.at = at
		c.rules = append(c.rules, x)
	}
	return nil
}

// expr is any JSON value of nft: a word, a number, a list, or a mapping of one
// name to its content.
type expr struct {
	kind string // the name of the mapping; "" for others
	body map[string]any
	any  any
}

func exprOf(v any) expr {
	if m, ok := v.(map[string]any); ok && len(m) == 1 {
		for k, inner := range m {
			body, _ := inner.(map[string]any)
			return expr{kind: k, body: body, any: inner}
		}
	}
	return expr{any: v}
}

func statementOf(text json.RawMessage) (expr, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return expr{}, err
	}
	e := exprOf(v)
	if e.kind == "" {
		return e, fmt.Errorf("%s is no statement", shorten(string(text)))
	}
	return e, nil
}

func (e expr) word(key string) string {
	switch v := e.body[key].(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	}
	return ""
}
