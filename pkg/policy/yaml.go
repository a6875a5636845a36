package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v4"
)

// node is a node of the YAML library's tree.
type node = yaml.Node

// maxDepth bounds nesting. A policy needs six levels; what nests much deeper
// was made to exhaust the reader.
const maxDepth = 64

// limits holds the YAML library to maxDepth. Aliases are counted in alias.go.
type limits struct{}

func (limits) CheckDepth(depth int, _ *yaml.DepthContext) error {
	if depth > maxDepth {
		return fmt.Errorf("lists and mappings are nested more than %d deep; a policy never needs that", maxDepth)
	}
	return nil
}

func (limits) CheckAlias(int, int) error { return nil }

// parseYAML gives the root of the one document in the text, or nil after it
// has reported why there is none.
func (d *decoder) parseYAML() (root *node) {
	// The library panics where it finds itself in a state that it holds to
	// be impossible. A policy file must not be able to take the program down.
	defer func() {
		if r := recover(); r != nil {
			d.fail(Place{d.file, 1, 1}, fmt.Sprintf("not YAML: the parser gave up (%v)", r))
			root = nil
		}
	}()
	loader, err := yaml.NewLoader(bytes.NewReader(yaml11(d.lines.text)), yaml.WithPlugin(limits{}))
	if err != nil {
		d.syntaxError(err)
		return nil
	}
	var doc, second yaml.Node
	switch err := loader.Load(&doc); {
	case err == io.EOF:
		d.fail(Place{d.file, 1, 1}, d.nothing())
		return nil
	case err != nil:
		d.syntaxError(err)
		return nil
	}
	switch err := loader.Load(&second); {
	case err == io.EOF:
	case err != nil:
		d.syntaxError(err)
		return nil
	default:
		d.failAt(&second, "a second document begins here; give it a file of its own, or take the --- out")
	}
	if doc.Kind == yaml.DocumentNode && len(doc.Content) == 1 {
		return doc.Content[0]
	}
	return &doc
}

// yaml11 makes a %YAML 1.2 directive one of 1.1, the only version that the
// library lets pass; what it then reads is 1.2 all the same.
func yaml11(text []byte) []byte {
	rest := text
	for len(rest) > 0 && (rest[0] == '#' || rest[0] == '\n' || rest[0] == '\r') {
		_, after, _ := bytes.Cut(rest, []byte{'\n'})
		rest = after
	}
	directive := []byte("%YAML 1.2")
	if !bytes.HasPrefix(rest, directive) {
		return text
	}
	text = bytes.Clone(text)
	text[len(text)-len(rest)+len(directive)-1] = '1'
	return text
}

const emptyFile = "the policy is empty; the smallest one is `version: 1`"

func (d *decoder) nothing() string {
	if d.empty != "" {
		return d.empty
	}
	return emptyFile
}

// syntaxError reports an error of the YAML library.
func (d *decoder) syntaxError(err error) {
	at, message := Place{d.file, 1, 1}, err.Error()
	var notes []Note
	if e, ok := errors.AsType[*yaml.LoadError](err); ok {
		message = e.Message
		mark, context := d.mark(e.Mark), d.mark(e.ContextMark)
		switch {
		case e.Mark.Line == 0 && e.ContextMark.Line > 0:
			at = context
		case e.Mark.Line > 0 && e.ContextMark.Line > 0 && strings.Contains(message, "unexpected end of stream"):
			// The end of the file is not where to look.
			at, message = context, "what begins here is not closed before the end of the file; look for a missing quote"
		case e.Mark.Line > 0:
			at = mark
			if strings.HasPrefix(e.ContextMsg, "while parsing a flow") {
				notes = append(notes, Note{context, "it begins here"})
			}
		}
	}
	d.fail(at, "not YAML: "+strings.TrimPrefix(message, "yaml: ")+d.syntaxHint(at, message), notes...)
}

// mark gives the place of a mark of the YAML library.
func (d *decoder) mark(m yaml.Mark) Place {
	p := Place{d.file, m.Line, d.lines.column(m.Line, m.Column)}
	d.lines.clamp(&p)
	return p
}

// syntaxHint says what to write instead where the values of a policy are what
// trips over YAML's own punctuation.
func (d *decoder) syntaxHint(at Place, message string) string {
	line := d.lines.line(at.Line)
	rest := line[min(at.Column-1, len(line)):]
	switch {
	case len(rest) > 0 && rest[0] == '@':
		word := rest
		if i := bytes.IndexAny(word, " ,]}"); i >= 0 {
			word = word[:i]
		}
		return fmt.Sprintf("; YAML reserves the @, so put the name of a set in quotes: %q", word)
	case len(rest) > 0 && rest[0] == '*', at.Column > 1 && len(line) >= at.Column && line[at.Column-2] == '*', strings.Contains(message, "unknown anchor"):
		return "; a value that begins with * needs quotes"
	case len(rest) > 0 && rest[0] == '`':
		return "; YAML reserves the `, so put the value in quotes"
	case bytes.Contains(line, []byte("]:")):
		return "; an address in brackets needs quotes: \"[2001:db8::1]:80\""
	case strings.Contains(message, "mapping values are not allowed"):
		return "; look for a missing line break or a wrong indentation, or for a space that is missing behind a colon, and put a value that holds a colon and a space in quotes"
	case strings.Contains(message, "did not find expected ',' or"):
		return "; look for a bracket or brace that is not closed"
	case strings.Contains(message, "did not find expected"), strings.Contains(message, "could not find expected"):
		return "; look at the indentation, and for a missing colon, comma or quote, here and in the line above"
	}
	return ""
}
