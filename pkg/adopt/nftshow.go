package adopt

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// shown gives an expression roughly as nft writes it without -j: it is how a
// finding names a rule.
func (e expr) shown() string {
	switch e.kind {
	case "match":
		op := e.word("op")
		if op == "==" || op == "in" {
			op = ""
		} else {
			op += " "
		}
		return exprOf(e.body["left"]).shown() + " " + op + exprOf(e.body["right"]).shown()
	case "payload":
		if e.word("field") != "" {
			return e.word("protocol") + " " + e.word("field")
		}
	case "meta", "ct":
		key := e.word("key")
		if d := e.word("dir"); d != "" {
			key = d + " " + key
		}
		switch key {
		case "iifname", "oifname", "iif", "oif":
			return key
		}
		return e.kind + " " + key
	case "fib":
		return "fib " + words(e.body["flags"], " . ") + " " + e.word("result")
	case "prefix":
		return exprOf(e.body["addr"]).shown() + "/" + e.word("len")
	case "range":
		return words(e.any, "-")
	case "set":
		if _, ok := e.any.([]any); ok {
			return "{ " + words(e.any, ", ") + " }"
		}
		return exprOf(e.any).shown()
	case "concat":
		return words(e.any, " . ")
	case "elem":
		return exprOf(e.body["val"]).shown()
	case "counter":
		return "counter"
	case "accept", "drop", "return", "continue", "masquerade", "notrack", "redirect", "reject":
		if e.kind == "redirect" && e.body["port"] != nil {
			return "redirect to :" + exprOf(e.body["port"]).shown()
		}
		if e.kind == "reject" && e.word("type") != "" {
			return strings.TrimSpace("reject with " + e.word("type") + " " + e.word("expr"))
		}
		return e.kind
	case "jump", "goto":
		return e.kind + " " + e.word("target")
	case "dnat", "snat":
		to := exprOf(e.body["addr"]).shown()
		if p, ok := e.body["port"]; ok {
			to += ":" + exprOf(p).shown()
		}
		return e.kind + " to " + to
	case "vmap", "map":
		return exprOf(e.body["key"]).shown() + " " + e.kind + " " + exprOf(e.body["data"]).shown()
	case "mangle":
		return exprOf(e.body["key"]).shown() + " set " + exprOf(e.body["value"]).shown()
	case "log":
		if p := e.word("prefix"); p != "" {
			return fmt.Sprintf("log prefix %q", p)
		}
		return "log"
	case "limit":
		return "limit rate " + e.word("rate") + "/" + e.word("per")
	case "xt":
		return "xt " + e.word("type") + " " + e.word("name")
	case "":
		switch v := e.any.(type) {
		case string:
			return v
		case bool:
			return map[bool]string{true: "exists", false: "missing"}[v]
		case json.Number:
			return v.String()
		case []any:
			if len(v) == 2 { // an element of a map
				return words(v, " : ")
			}
			return words(v, ",")
		}
	}
	keys := make([]string, 0, len(e.body))
	for k := range e.body {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	out := e.kind
	for _, k := range keys {
		if w := e.word(k); w != "" {
			out += " " + k + " " + w
		}
	}
	if out == "" {
		out = "?"
	}
	return out
}

// words shows the members of a list.
func words(v any, between string) string {
	list, ok := v.([]any)
	if !ok {
		return exprOf(v).shown()
	}
	var out []string
	for i, item := range list {
		if i == 12 {
			out = append(out, "...")
			break
		}
		out = append(out, exprOf(item).shown())
	}
	return strings.Join(out, between)
}
