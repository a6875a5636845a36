// Package oracle compares what package explain says of a packet with what the
// kernel does to it: random policies, random packets, one gateway.
//
// A policy is put in force as by apply. Packets of different flows are sent
// from all sides, and by the gateway itself; then the answers, from what each
// packet became; then a second packet of each flow. Of every one the kernel
// shows whether and where it left, as what, whether it was delivered or
// answered, and which flow conntrack keeps. All of that has to be what a walk
// through the compiled rules gives. What the kernel chooses (a target, an
// address of a pool, a port) is told to the walk, which says whether the rules
// allow it.
//
// Nothing here knows a key of the policy language. Package random makes the
// policies, and packets are aimed at the addresses and ports that a policy's
// text has. So a new key joins by being made there, and a test fails until it
// is, or is on a list with the reason why not.
//
// # Limits
//
// What cannot be told from outside, or is the kernel's own:
//
//   - A synproxy does not answer what these sockets send over IPv6: the kernel
//     looks at a checksum that no device has checked as if it were one of IPv4
//     (nft_synproxy_do_eval), and drops the packet.
//   - Where ports are chosen at random, so is the identifier of a query for node
//     information (ICMPv6 type 139); but the kernel does not write it into the
//     packet (icmpv6_manip_pkt). No such packets are sent.
//   - Sources that are the broadcast address of a network are refused where the
//     host has rules of routing, and else not. None are sent.
//   - Of several routes back to the source of a packet for a link-local address,
//     IPv6 takes that of the link which has the address (__rt6_device_match).
//     Such packets are only sent where there is one route.
//   - Two packets of a protocol without ports that become the same are one too
//     many, and the second is dropped.
package oracle
