package policy

import (
	"sort"
	"strings"
)

// Error is one mistake in a policy, with its place. Notes show other places
// that have a part in it.
type Error struct {
	Place
	Message string
	Notes   []Note
}

// Note is a further place that an error speaks of.
type Note struct {
	Place
	Message string
}

// Error gives "file:line:column: message".
func (e *Error) Error() string {
	if s := e.Place.String(); s != "" {
		return s + ": " + e.Message
	}
	return e.Message
}

// Errors is every mistake that was found, in the order of their places.
type Errors []*Error

// Error gives one line for each mistake.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, err := range e {
		lines[i] = err.Error()
	}
	return strings.Join(lines, "\n")
}

// Sort puts the errors in the order of files (as first met), lines and columns.
func (e Errors) Sort() {
	files := map[string]int{}
	for _, err := range e {
		if _, ok := files[err.File]; !ok {
			files[err.File] = len(files)
		}
	}
	sort.SliceStable(e, func(i, j int) bool {
		a, b := e[i], e[j]
		if a.File != b.File {
			return files[a.File] < files[b.File]
		}
		if a.Line != b.Line {
			return a.Line < b.Line
		}
		return a.Column < b.Column
	})
}
