# SPDX-License-Identifier: GPL-2.0-only
"""Addresses and bits of the ISP8000, by the names that qlge.h gives them."""

from enum import IntEnum

VENDOR_ID, DEVICE_ID_8000, DEVICE_ID_8012 = 0x1077, 0x8000, 0x8012

#: BAR 1 holds the registers, and behind them the tables of MSI-X. QEMU keeps the vector table itself.
REGISTERS_SIZE, MSIX_TABLE, MSIX_PENDING = 0x4000, 0x2000, 0x3000
#: BAR 3 has a page for each queue: outbound ones in the lower half, inbound ones in the upper.
DOORBELLS_SIZE, DB_PAGE_SIZE, OUTBOUND_QUEUES = 1 << 20, 4096, 128

MAX_CQ = 128
MAX_RX_RINGS = 17
#: The largest frame that passes the MAC (CFG_DEFAULT_MAX_FRAME_SIZE), bytes.
MAX_FRAME = 0x2580


class Register(IntEnum):
    """Offsets in BAR 1."""

    PROC_ADDR = 0x00
    PROC_DATA = 0x04
    SYS = 0x08
    RST_FO = 0x0C
    FSC = 0x10
    CSR = 0x14
    ICB_L = 0x20
    ICB_H = 0x24
    CFG = 0x28
    STS = 0x30
    INTR_EN = 0x34
    INTR_MASK = 0x38
    ISR1 = 0x3C
    REV_ID = 0x4C
    SEM = 0x64
    XGMAC_ADDR = 0x78
    XGMAC_DATA = 0x7C
    FLASH_ADDR = 0x88
    FLASH_DATA = 0x8C
    MAC_ADDR_IDX = 0xA8
    MAC_ADDR_DATA = 0xAC
    NIC_RCV_CFG = 0xD4
    MGMT_RCV_CFG = 0xE0
    RT_IDX = 0xE4
    RT_DATA = 0xE8
    XG_SERDES_ADDR = 0xF0


#: Registers in which the high half of a written value says which bits of the low half count.
WRITE_MASKED = frozenset(
    {
        Register.SYS,
        Register.RST_FO,
        Register.FSC,
        Register.STS,
        Register.INTR_MASK,
        Register.SEM,
        Register.NIC_RCV_CFG,
        Register.MGMT_RCV_CFG,
    }
)

#: In PROC_ADDR, FLASH_ADDR, XGMAC_ADDR and XG_SERDES_ADDR.
ADDR_RDY, ADDR_R, ADDR_MASK = 1 << 31, 1 << 30, (1 << 28) - 1
#: In MAC_ADDR_IDX and RT_IDX.
IDX_MW, IDX_MR, IDX_E, IDX_RS = 1 << 31, 1 << 30, 1 << 27, 1 << 26

RST_FO_FR = 1 << 15

CSR_RR, CSR_RP = 1 << 8, 1 << 10
CSR_CMD_SHIFT = 28
CSR_CMD_SET_RST, CSR_CMD_CLR_RST, CSR_CMD_SET_PAUSE, CSR_CMD_CLR_PAUSE = 1, 2, 3, 4
CSR_CMD_SET_H2R_INT, CSR_CMD_CLR_R2PCI_INT = 5, 10

CFG_LRQ, CFG_LR, CFG_LE, CFG_LCQ = 1, 4, 0x20, 0x40
CFG_Q_SHIFT, CFG_Q_MASK = 8, 0x7F

STS_PI, STS_PL0, STS_PI0, STS_F0E, STS_NFE = 1 << 1, 1 << 2, 1 << 4, 1 << 8, 1 << 12

INTR_EN_EN, INTR_EN_EI = 1 << 15, 1 << 14
INTR_EN_TYPE_MASK, INTR_EN_TYPE_ENABLE, INTR_EN_TYPE_DISABLE = 0x300, 0x100, 0x200
INTR_EN_INTR_MASK = 0x7F
INTR_MASK_PI = 1

MAC_ADDR_TYPE_CAM_MAC, MAC_ADDR_TYPE_MULTI_MAC, MAC_ADDR_TYPE_VLAN = 0, 1, 2
CAM_OUT_CQ_ID_SHIFT = 5

NIC_RCV_CFG_RV = 1 << 3
NIC_RCV_CFG_VLAN_MASK = 6
NIC_RCV_CFG_VLAN_MATCH_ONLY, NIC_RCV_CFG_VLAN_MATCH_AND_NON, NIC_RCV_CFG_VLAN_NONE_AND_NON = 2, 4, 6
NIC_RCV_CFG_DFQ_SHIFT = 8

RT_IDX_TYPE_NICQ = 2
RT_IDX_DST_RSS, RT_IDX_DST_CAM_Q, RT_IDX_DST_DFLT_Q = 0, 1, 3
RT_IDX_MAX_NIC_SLOTS = 16
RT_IDX_BCAST, RT_IDX_MCAST, RT_IDX_MCAST_MATCH, RT_IDX_CAM_HIT = 1 << 0, 1 << 1, 1 << 2, 1 << 7
RT_IDX_VALID, RT_IDX_TU_CSUM_ERR, RT_IDX_IP_CSUM_ERR, RT_IDX_RSS_MATCH = 1 << 23, 1 << 24, 1 << 25, 1 << 31

#: Entries of work and completion queues: the low bits of a length carry flags, and 0 means the largest.
LEN_FLAGS = 0x1F
CQICB_LS, CQICB_LL, CQICB_LC = 0x10, 0x20, 0x80
#: The producer index of a buffer queue: the device ignores its low bits (QLGE_BQ_ALIGN).
BQ_ALIGN = 16

OPCODE_OB_MAC_IOCB, OPCODE_OB_MAC_TSO_IOCB, OPCODE_IB_MAC_IOCB = 0x01, 0x02, 0x20

TX_DESC_LEN_MASK, TX_DESC_C, TX_DESC_E = 0x000FFFFF, 0x40000000, 0x80000000
OB_TSO_LSO, OB_TSO_UC, OB_TSO_TC = 0x20, 0x40, 0x80
OB_TSO_IC, OB_V = 0x01, 0x04
OB_TRANSPORT_HDR_SHIFT = 6
OB_RSP_E, OB_RSP_S, OB_RSP_L = 0x08, 0x10, 0x20

IB_TE, IB_NU, IB_IE = 0x04, 0x08, 0x10
IB_M_REG, IB_M_PROM, IB_B = 0x40, 0x60, 0x80
IB_P, IB_V, IB_U, IB_T = 0x01, 0x02, 0x20, 0x40
IB_M_IPV4, IB_M_IPV6, IB_M_TCP_V4, IB_M_TCP_V6 = 0x04, 0x02, 0x05, 0x03
IB_V4, IB_V6, IB_DS, IB_DL = 0x08, 0x10, 0x40, 0x80

RSS_RI4, RSS_RT4, RSS_RI6, RSS_RT6 = 0x10, 0x20, 0x40, 0x80
