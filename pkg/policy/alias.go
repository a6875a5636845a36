package policy

import (
	"bytes"
	"fmt"

	"go.yaml.in/yaml/v4"
)

// maxExpanded bounds how many nodes the aliases of one file stand for. A list
// of hosts that several entries share is far below it; a bomb is far above.
const maxExpanded = 100_000

// checkAliases counts what a file comes to once every alias is followed, and
// gives false where that is without end or beyond reason. Without an anchor
// there is nothing to count.
func (d *decoder) checkAliases(root *node) bool {
	d.anchors = bytes.IndexByte(d.lines.text, '&') >= 0
	if !d.anchors {
		return true
	}
	w := aliasWalk{sizes: map[*node]int{}}
	w.size(root)
	if w.loop != nil {
		d.failAt(w.loop, fmt.Sprintf("the alias *%s stands inside its own anchor; write the value out", w.loop.Value))
		return false
	}
	if w.bomb != nil {
		d.failAt(w.bomb, fmt.Sprintf("with the alias *%s the aliases of this file stand for more than %d values; write them out", w.bomb.Value, maxExpanded))
		return false
	}
	return true
}

type aliasWalk struct {
	sizes    map[*node]int // of what has an anchor; -1 while it is being counted
	expanded int
	loop     *node
	bomb     *node
}

// size is the number of nodes that n comes to, cut off at maxExpanded.
func (w *aliasWalk) size(n *node) int {
	if w.loop != nil || w.bomb != nil {
		return 0
	}
	if n.Kind == yaml.AliasNode {
		size, counted := w.sizes[n.Alias]
		if !counted || size < 0 {
			w.loop = n
			return 0
		}
		if w.expanded += size; w.expanded > maxExpanded {
			w.bomb = n
		}
		return size
	}
	if n.Anchor != "" {
		w.sizes[n] = -1
	}
	size := 1
	for _, child := range n.Content {
		size = min(size+w.size(child), maxExpanded+1)
	}
	if n.Anchor != "" {
		w.sizes[n] = size
	}
	return size
}
