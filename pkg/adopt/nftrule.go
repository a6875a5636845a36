package adopt

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// nftReader turns the statements of one rule into rules of the common form. The
// rule is a union of boxes where it tests concatenations, or looks into a map.
type nftReader struct {
	file          *nftFile
	family, table string
	partial       []partial
	shown         []string
	out           []*rule
	ended         bool
	changing      []string // sets that others fill
}

// partial is a box that is being narrowed.
type partial struct {
	box
	in, out []interfaces
}

// tooManyElements bounds what one rule may become.
const tooManyElements = 4096

func (r *nftReader) emit(do action) {
	for _, p := range r.partial {
		r.out = append(r.out, &rule{box: p.box, in: slices.Clone(p.in), out: slices.Clone(p.out), do: do})
	}
	r.ended = r.ended || do.terminal()
}

// finish keeps a rule without a verdict: it may count, or be odd.
func (r *nftReader) finish() {
	if len(r.out) == 0 {
		r.emit(action{})
	}
}

func (r *nftReader) odd(text string) {
	for i := range r.partial {
		r.partial[i].odd = append(slices.Clone(r.partial[i].odd), text)
	}
}

func (r *nftReader) statement(e expr) {
	if r.ended {
		return
	}
	switch e.kind {
	case "match":
		r.match(e)
	case "counter", "last", "comment":
	case "accept":
		r.emit(action{kind: doAccept})
	case "drop":
		r.emit(action{kind: doDrop})
	case "continue":
	case "return":
		r.emit(action{kind: doReturn})
	case "jump", "goto":
		do := action{kind: doJump, chain: r.chainKey(e.word("target"))}
		if e.kind == "goto" {
			do.kind = doGoto
		}
		r.emit(do)
	case "reject":
		with := e.word("expr")
		if e.word("type") == "tcp reset" {
			with = "tcp-reset"
		}
		r.emit(action{kind: doReject, with: with})
	case "log":
		do := action{kind: doLog, log: logging{prefix: e.word("prefix"), level: e.word("level"), group: -1}}
		if n, err := strconv.Atoi(e.word("group")); err == nil {
			do.log.group = n
		}
		r.emit(do)
	case "limit":
		r.limit(e)
	case "masquerade", "redirect":
		do := action{kind: doMasquerade}
		if e.kind == "redirect" {
			do.kind = doRedirect
		}
		r.natFlags(e, &do)
		if p, ok := e.body["port"]; ok {
			x, ok := portOf(p)
			if !ok {
				r.oddAction(e)
				return
			}
			do.ports = x
		}
		r.emit(do)
	case "dnat", "snat":
		r.translate(e)
	case "vmap":
		r.verdictMap(e)
	case "mangle":
		r.mangle(e)
	case "notrack", "ct helper", "ct timeout", "ct expectation", "flow", "set", "map", "meter", "dup", "secmark", "quota", "ct count":
		if e.kind == "quota" || e.kind == "ct count" || e.kind == "meter" {
			r.odd(e.shown())
			return
		}
		do := action{kind: doOdd, text: e.shown(), passes: true}
		if e.kind == "flow" {
			do.text = "flow offload"
		}
		if (e.kind == "set" || e.kind == "map") && e.body["stmt"] != nil {
			r.odd(e.shown())
			return
		}
		r.emit(do)
	case "xt":
		r.odd(fmt.Sprintf("%s, which iptables has made and nft does not show: give what iptables-save prints instead", e.shown()))
	default:
		r.oddAction(e)
	}
}

func (r *nftReader) chainKey(name string) string { return r.family + " " + r.table + " " + name }

func (r *nftReader) oddAction(e expr) { r.emit(action{kind: doOdd, text: e.shown()}) }

func (r *nftReader) natFlags(e expr, do *action) {
	var flags []string
	switch v := e.body["flags"].(type) {
	case string:
		flags = []string{v}
	case []any:
		for _, f := range v {
			s, _ := f.(string)
			flags = append(flags, s)
		}
	}
	for _, f := range flags {
		switch f {
		case "random", "fully-random":
			do.random = f
		case "persistent":
			do.persist = true
		}
	}
}

func (r *nftReader) limit(e expr) {
	n, err := strconv.Atoi(e.word("rate"))
	inverted, _ := e.body["inv"].(bool)
	unit := e.word("rate_unit")
	burst, _ := strconv.Atoi(e.word("burst"))
	if err != nil || inverted || unit != "" && unit != "packets" || !slices.Contains([]string{"second", "minute", "hour", "day"}, e.word("per")) {
		r.odd(e.shown())
		return
	}
	if burst == 0 {
		burst = 5
	}
	for i := range r.partial {
		r.partial[i].rate = &rate{count: n, per: e.word("per"), burst: burst}
	}
}

// mangle reads `meta mark set` and `tcp option maxseg size set`.
func (r *nftReader) mangle(e expr) {
	key, value := exprOf(e.body["key"]), exprOf(e.body["value"])
	switch {
	case key.kind == "meta" && key.word("key") == "mark":
		if n, ok := numberOf(value.any); value.kind == "" && ok {
			r.emit(action{kind: doMark, mark: [2]uint32{uint32(n), 0xffffffff}})
			return
		}
		// mark | v and (mark & m) ^ v
		if list, ok := value.any.([]any); ok && len(list) == 2 && value.kind == "|" {
			if v, ok := numberOf(list[1]); ok && exprOf(list[0]).kind == "meta" {
				r.emit(action{kind: doMark, mark: [2]uint32{uint32(v), uint32(v)}})
				return
			}
		}
	case key.kind == "tcp option" && key.word("name") == "maxseg":
		do := action{kind: doMSS}
		if n, ok := numberOf(value.any); value.kind == "" && ok {
			do.mss = n
		} else if value.kind != "rt" {
			break
		}
		r.emit(do)
		return
	}
	r.emit(action{kind: doOdd, text: e.shown(), passes: true})
}

// verdictMap makes a rule of each element.
func (r *nftReader) verdictMap(e expr) {
	elements, ok := r.elements(e.body["data"])
	if !ok || len(elements)*len(r.partial) > tooManyElements {
		r.oddAction(e)
		return
	}
	// The catch-all element is asked last, wherever it stands.
	slices.SortStableFunc(elements, func(a, b any) int { return catchAll(a) - catchAll(b) })
	from := r.partial
	var all []*rule
	for _, x := range elements {
		pair, ok := x.([]any)
		if !ok || len(pair) != 2 {
			r.oddAction(e)
			return
		}
		r.partial, r.ended = clonePartials(from), false
		if pair[0] != "*" { // the catch-all
			r.narrow(exprOf(e.body["key"]), pair[0], false)
		}
		before := len(r.out)
		v := exprOf(pair[1])
		if w, ok := pair[1].(string); ok {
			v = expr{kind: w}
		}
		r.statement(v)
		all = append(all, r.out[before:]...)
		r.out = r.out[:before]
	}
	r.out = append(r.out, all...)
	r.partial, r.ended = from, false
}

func catchAll(element any) int {
	if pair, ok := element.([]any); ok && len(pair) == 2 && pair[0] == "*" {
		return 1
	}
	return 0
}

func clonePartials(list []partial) []partial {
	out := slices.Clone(list)
	for i := range out {
		out[i].in, out[i].out, out[i].odd = slices.Clone(out[i].in), slices.Clone(out[i].out), slices.Clone(out[i].odd)
	}
	return out
}

// elements gives the elements of a set or map, named or written there.
func (r *nftReader) elements(v any) ([]any, bool) {
	if name, ok := v.(string); ok && strings.HasPrefix(name, "@") {
		s := r.file.sets[r.family+" "+r.table+" "+name[1:]]
		if s == nil {
			return nil, false
		}
		if slices.Contains(s.Flags, "dynamic") || slices.Contains(s.Flags, "timeout") {
			r.changing = append(r.changing, name)
		}
		var out []any
		for _, text := range s.Elem {
			d := json.NewDecoder(strings.NewReader(string(text)))
			d.UseNumber()
			var x any
			if d.Decode(&x) != nil {
				return nil, false
			}
			out = append(out, x)
		}
		return out, true
	}
	e := exprOf(v)
	if e.kind == "set" {
		if list, ok := e.any.([]any); ok {
			return list, true
		}
		return []any{e.any}, true
	}
	if list, ok := v.([]any); ok {
		return list, true
	}
	return []any{v}, true
}

// translate reads dnat and snat, whose target may be looked up.
func (r *nftReader) translate(e expr) {
	do := action{kind: doDNAT}
	if e.kind == "snat" {
		do.kind = doSNAT
	}
	r.natFlags(e, &do)
	if x, ok := e.body["port"]; ok {
		p, ok := portOf(x)
		if !ok {
			r.oddAction(e)
			return
		}
		do.ports = p
	}
	addr := exprOf(e.body["addr"])
	if addr.kind != "map" {
		t, ok := targetOf(e.body["addr"])
		if do.ports.hi > 0 {
			t.ports = do.ports
		}
		if !ok && !(e.body["addr"] == nil && t.ports.hi > 0) {
			r.oddAction(e)
			return
		}
		do.to = []target{t}
		r.emit(do)
		return
	}
	elements, ok := r.elements(addr.body["data"])
	key := exprOf(addr.body["key"])
	if !ok || len(elements) == 0 || len(elements)*len(r.partial) > tooManyElements {
		r.oddAction(e)
		return
	}
	chosen := key.kind == "numgen" || key.kind == "jhash" || key.kind == "symhash"
	do.turn, do.sticky = chosen && key.kind == "numgen", chosen && key.kind == "jhash" && exprOf(key.body["expr"]).word("field") == "saddr"
	from := r.partial
	for _, x := range elements {
		pair, ok := x.([]any)
		if !ok || len(pair) != 2 {
			r.oddAction(e)
			return
		}
		t, ok := targetOf(pair[1])
		if !ok {
			r.oddAction(e)
			return
		}
		if t.ports.hi == 0 {
			t.ports = do.ports
		}
		if chosen {
			do.to = append(do.to, t)
			continue
		}
		r.partial = clonePartials(from)
		r.narrow(key, pair[0], false)
		one := do
		one.to = []target{t}
		r.emit(one)
	}
	r.partial, r.ended = from, true
	if chosen {
		r.emit(do)
	}
	if !chosen { // what is not in the map goes on
		r.ended = false
	}
}

// targetOf reads an address, a range, a prefix, or an address and a port.
func targetOf(v any) (target, bool) {
	e := exprOf(v)
	if e.kind == "elem" {
		e = exprOf(e.body["val"])
	}
	if e.kind == "concat" {
		list, _ := e.any.([]any)
		if len(list) != 2 {
			return target{}, false
		}
		t, ok := targetOf(list[0])
		p, ok2 := portOf(list[1])
		t.ports = p
		return t, ok && ok2
	}
	s, ok := spanOfExpr(e)
	return target{span: s}, ok
}
