#!/bin/sh
# As the better ones of such scripts do it: the policies first, so that nothing
# is open meanwhile; translation before the rules that let packets through.
set -e
{{.Iptables}} -P INPUT DROP
{{.Iptables}} -P FORWARD DROP
{{.Iptables}} -P OUTPUT ACCEPT
{{.Iptables}} -F
{{.Iptables}} -X
{{.Iptables}} -t nat -F
{{.Iptables}} -t nat -X
{{.Iptables}} -t nat -A POSTROUTING -s 192.168.1.0/24 -o eth0 -j MASQUERADE
{{.Iptables}} -t nat -A PREROUTING -i eth0 -p tcp --dport 80 -j DNAT --to-destination 192.168.1.10:8080
{{- if .Second}}
{{.Iptables}} -t nat -A PREROUTING -i eth0 -p tcp --dport 5000 -j DNAT --to-destination 192.168.1.11:5001
{{- end}}
{{.Iptables}} -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
{{.Iptables}} -A INPUT -m conntrack --ctstate INVALID -j DROP
{{.Iptables}} -A INPUT -i lo -j ACCEPT
{{.Iptables}} -A INPUT -i eth1 -j ACCEPT
{{.Iptables}} -A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
{{.Iptables}} -A FORWARD -m conntrack --ctstate INVALID -j DROP
{{.Iptables}} -A FORWARD -i eth1 -o eth0 -j ACCEPT
{{.Iptables}} -A FORWARD -i eth0 -m conntrack --ctstate DNAT -j ACCEPT
