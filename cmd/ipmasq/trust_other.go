//go:build !linux

package main

// trust has nothing to judge: nothing can be applied here.
type trust struct{}

func newTrust(string) *trust { return &trust{} }

func (*trust) judge(string) *untrusted { return nil }
