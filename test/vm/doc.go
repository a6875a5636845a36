// Package vm runs the packet tests on other kernels than the machine's: Debian's, in an emulated machine. These
// have what the machine's own may lack (VLAN, PPP, WireGuard, flowtables), and one of them is old. Each boots once more
// with iptables and without nf_tables. `make test-vm` fetches what the machines are made of and runs this package's
// test, which is no part of `make test`.
//
// The machine is a kernel and an archive that the kernel unpacks: the test binary of test/packet with the tag vm,
// ipmasq, a few programs, and modules. Its first process runs the tests, and their results come over a serial line.
package vm
