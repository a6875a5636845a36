// Package systemd tests the units in examples/systemd: as systemd reads them, and in machines that it boots.
//
// A machine is a container: namespaces of its own, the network's among them, with systemd as its first process. It
// has this machine's /usr, read-only, and for the rest folders in memory, so it boots in two seconds and leaves
// nothing behind. That takes root, and the control groups of version 2.
package systemd
