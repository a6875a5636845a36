package policy

import "fmt"

// word decodes one of a few words. What it gives for an unknown one, after it
// has reported it, is the zero value.
func word[T any](d *decoder, n *node, words []string, values []T) T {
	var none T
	text, ok := d.text(n)
	if !ok {
		return none
	}
	for i, w := range words {
		if w == text {
			return values[i]
		}
	}
	message := fmt.Sprintf("`%s` takes %s, found %s", d.key, d.takes, quote(text))
	if near := nearest(text, words); near != "" {
		message += fmt.Sprintf("; did you mean %q?", near)
	}
	d.failAt(deref(n), message)
	return none
}
