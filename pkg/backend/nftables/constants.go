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
	nftTableOwner          = 2
	nftTablePersist        = 4 // since Linux 6.9
	nftaSetDescConcat      = 2
	nftaSetFieldLen        = 1
	nftaSetExpr            = 17
	nftaSetCount           = 20
	nftaObjUserdata        = 8
	nftObjectCtTimeout     = 7
	nftaCtTimeoutL3proto   = 1
	nftaCtTimeoutL4proto   = 2
	nftaCtTimeoutData      = 3
	nftaConnlimitCount     = 1
	nftaConnlimitFlags     = 2
	connlimitOver          = 1
	nftaFlowTableName      = 1
	nftaFlowtableTable     = 1
	nftaFlowtableName      = 2
	nftaFlowtableHook      = 3
	nftaFlowtableFlags     = 7
	nftaFlowtableHookNum   = 1
	nftaFlowtablePriority  = 2
	nftaFlowtableDevices   = 3
	nftaDeviceName         = 1
	flowtableHardware      = 1
	netdevIngress          = 0
	nftaSynproxyMSS        = 1
	nftaSynproxyWScale     = 2
	nftaSynproxyFlags      = 3
)
