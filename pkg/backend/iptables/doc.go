// Package iptables puts a ruleset into a kernel by iptables-restore, of the
// legacy or the nft variant, and reads it back by iptables-save.
//
// The translation is mechanical: what one rule of the ruleset says becomes as
// many lines as its sets and maps have elements, in the form in which
// iptables-save prints them, so that what is wanted and what is there are
// compared as text. Each line carries its entry as a comment and, behind " #",
// the counter that it counts for.
//
// The elements of a longer map or set are in chains of their own, split by ports,
// to which all lines lead that ask for them.
//
// Elements that differ in an address alone are one line, which asks for a set of
// the kernel (ip_set), and so are neighbours whose ports follow each other. The
// kernel's sets have no comments, but their elements may have: a set of its own
// keeps which entry each set is of.
//
// Four things are not where the ruleset has them, for iptables has no chain
// there:
//
//   - What stands behind the translation of sources (the leak guard) moves
//     before it, to POSTROUTING of mangle. Packets that nat is still to see, the
//     first of each flow, pass it.
//   - What a nat chain drops is dropped in mangle, right before nat, by a copy of
//     that chain in which a translation is the end: the nat table drops nothing.
//   - What nat drops since its source is forged is found by its answers, behind
//     routing: iptables cannot ask which way leads back. What else the ruleset
//     asks of ways goes by its [ruleset.Way].
//   - An accept leaves our own chain and no more, but in filter, where it is
//     final: rules of others that follow do not see the packet.
//
// Two iptables tables are two commits. Whoever reads in between sees filter and
// mangle of the new rules with nat of the old ones.
package iptables
