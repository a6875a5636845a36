//go:build unix

package main

import "log/syslog"

// systemLog writes to the system's log, where there is one: systemd reads
// standard error, and others listen on /dev/log.
func (p *program) systemLog(text string) {
	if p.getenv("NOTIFY_SOCKET") != "" {
		p.warnf("%s", text)
		return
	}
	if w, err := syslog.New(syslog.LOG_DAEMON|syslog.LOG_WARNING, "ipmasq"); err == nil {
		_ = w.Warning(text)
		_ = w.Close()
	}
}
