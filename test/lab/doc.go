// Package lab builds small networks out of namespaces, with real sockets, raw packets and captures in them.
//
// A test package hands its TestMain to [Main], which runs the test binary again inside fresh network, mount,
// PID and IPC namespaces (and a user namespace where the caller is not root). What a test builds there cannot
// touch the host, and the kernel removes it when the process ends, however it ends. No binary is needed: links,
// addresses and routes go over netlink, packets over sockets.
//
// What surprises:
//
//   - A socket belongs to the namespace it was made in; a goroutine does not. [Host.Do] holds its thread for the
//     length of the call, and a goroutine started inside it runs outside the namespace again.
//   - The process is PID 1 of its namespace: it has no parent to adopt its orphans, and /run is an empty tmpfs.
//   - Hosts start from the kernel's compiled defaults, not from the machine's: no forwarding, no reverse path
//     filter, no duplicate address detection, no router advertisements, no limit on ICMP errors.
//   - A veth leaves checksums to hardware that does not exist, so a captured local packet may hold half a
//     checksum ([Packet].PartialChecksum) and may be larger than the link's MTU. [Host.NoOffload] stops both.
//   - Setting up the network fails the test at once; what the network does to a packet is returned as an error
//     that [IsTimeout], [IsRefused], [IsProhibited], [IsUnreachable] and [IsTooBig] tell apart.
package lab
