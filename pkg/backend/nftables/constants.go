//go:build linux

package nftables

// What golang.org/x/sys/unix lacks of uapi/linux/netfilter/nf_tables.h.
const (
	nftaBitwiseOp          = 6
	bitwiseMask            = 0 // an operation by a mask and an XOR
	nftaSetElemKeyEnd      = 10
	nftaSetElemObjref      = 9
	nftaSetElemExpressions = 11
	nftTableDormant        = 1
	nftaSetDescConcat      = 2
	nftaSetFieldLen        = 1
	nftaSetExpr            = 17
	nftaObjUserdata        = 8
)
