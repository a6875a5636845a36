//go:build !unix

package main

// toJournal is false: there is no journal.
func (p *program) toJournal() bool { return false }
