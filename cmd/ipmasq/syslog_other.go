//go:build !unix

package main

func (p *program) systemLog(text string) { p.warnf("%s", text) }
