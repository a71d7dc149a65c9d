"""Files of torch.save, recorded from PyTorch 2.13, and hostile ones: each loads or is refused, and nothing is run."""

from __future__ import annotations

import base64
import builtins
import io
import pickle
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from pmtrain.runs.formats.state_dict import parse_state
from pmtrain.system.errors import PmtrainError

# torch.save of {"state_dict": OrderedDict(turned=torch.arange(6.0).reshape(2, 3).t(), part=torch.arange(10)[3:7:2],
# half=tensor([1.5, -2]).half(), brain=tensor([1, -3.5, 0.1]).bfloat16(), scalar=tensor(7), empty=zeros(0, 3),
# flags=tensor([True, False]), parameter=Parameter(tensor([0.5]))), "norm": BatchNorm2d(2).state_dict(), "epoch": 3,
# "size": Size([2, 3])}, compressed: the zip archive, and with _use_new_zipfile_serialization=False.
RECORDED = {
    "archive": (
        "c-qBRU2NM_6n2s}Nwcl%)<L@gg>C#~uyt{gCJp;(F~bZzSnB;?1}t+DH!(}%9Q&qYgF+DM_<0%#0pbBoh-aP<yrGGAkeD>I2PBX{"
        "8ayHK#3T3mI+^dy+OF-xtlGD+@AsYWoO^ukab5}a2|_d~^c+LNW<j@0RddeRTh@_2-aK2Ar9t5obF_o=AjGv81~^DZMxkt$5Clpk"
        "t5!2g$g~<x?5JHfY@>V#KZ!wbmkOb{7RCV7vKvMj`bx;ccE$@WWY(Nm!8VF5vsNx3qv2R~VJ;bi{&-xAxF#%HuNV-fkeFPvbaaf~"
        "j6p;T;5iA1Y9Tz9nk^Vm!U$qBilBs);6+%c1eDN4SpR;NsMvsDP=$>e_Frh~HiDrlwo~nJAF&#hF7+mtT7=Ej0VRfDc!m%zz!q}3"
        "i_+bVU_^ycm#(VUW??HscNpL5(rt6;l5h{E3nI9eD8x+nDS-tTqjdKpctC~iT0fpxv~{xqI~YF6^<B(#Id{68DR>Zbh7dgDdc6P-"
        "6V68{XB+{(KI#VFDd{!chQ}yrl{%P)-54D}um_`e?V_l01bbCTxJrzA6P*Xq1JQs_KoWxl1Sw)tAQ4XE@B}Wx1SQBI$f_{u63o{0"
        "iUT>;70ar1-FV#P%)mYxn*CmA4iGmEQobn!(<(fn4bX+t>jpAxkQPa!?u-~b$>`3)A?oZ?#0I99$>nKk<1m6}RCxA1_lNQ>98ux9"
        "mb<nM%dW%o?){@QkIxxqrHUZWuusAa^+5GJI7ZlyQ}z=GPO9*N%U3jY2Q&togBL0Gl!twZU|*)#R}h?5p`fkD6YW-`VKyp-x}i7V"
        "OqU}_ay0=uB`JC&B|=iBBnE<66)M^~AITg}hbqe<f=M}E^*GKFjvD2tBWS2#X~QHat$LxTqf*sy3dq(=XYqU8?538>l?0&Swtczf"
        "AV4a#TJtdHE+_T`>7?4gIrsT%8Yx9^ejYBk1z^sw9b8l3btULHPLbwh(<)Wr4JG7;(=jg?Fz;p7G5jM2Zz@5Oly5CSTZOk<<9Q_#"
        "{Yd=ar*H6la^@GUfg?hsTLZ^u@xtq<;7O3B5GjQsA^Yy1U*93?M$W~_wh7srWL_mJ=ryy_s2dF=ODV3j-qw*x69H4_;BOM-;F1D1"
        "2~%AG#q-FpNL`kteXFtCIcg?CHG^naIPk|-@-~E*)G#O<WOkLk30Zo44FV`@dkSBs@gF|h_`Ez#6pdWE@!=?bFuIJQ-K-)}mg2(7"
        "?9-(eycHlv$Q%2-vELiR-Wc)5j-UZ=B)Y%)bK!KJ{J)IuG^;x)ONkXn5--OUVl#8?+Q)sK-lc3#vo=$*w0|w>bE-Xc=E{!;h=TdC"
        "Z-rIlPkL?n6Y<5p`O6I}>a7V?Aly>HepbPREKROj!BU=XVeMpOX{g6ez*YYJ&L6bp-~T~DVi~itbZ||p=jQ(uQLz2r9iOfue<s(O"
        "KlI&iyBaRdgs-vd7rmYJ%dKVo1YiD`zwI!Vx4%)?$JHBL0<*#$v@fp7{z~KDYd?9%{O|7NtG1tt5z9Y+Q8}^v`!^;eZ#Dp~>yBZY"
        "xC6MLlMkhWS(c^o6$(jYa*0$rm&oO^lPNKsPGu(&2{D_=q|?bnE}0dR$xKqrq=?Gjw|@Ou9P5a?Dg*9T)zRtihlYBT^WT9y+TQ?;"
        "Fvz}sVX+R1C-FBi+Zd7=KS@vL#Pj$YkxdNGRUc2c0pj8Qu3?aYp9~9J@4{pKJ2#8{i^qyQ*1rR@*vk<Po8+<ny_3amiE`K!kM-|*"
        "EcO!~o9<w5y)XKY(E$!S!Q1ukSuD2AV>3L~zuU0bt2{Q#WBpZ%#U77w*hwDiuP`k3I*-jQh26+t$yXS+BP=DF1z+z0iz~3ao(K1&"
        "mcO)dmVMwwUTJ^D8Dqfe24R_6m{-E#-JQxA+S5f2bK{p@i~Zk*&Q1_^o4U_8-|WouN`IJQhTZve?*9YnFrN"
    ),
    "stream": (
        "c-nQ9*?QYV6vwrAiIt=+l&!2~cUXc~Sq9pKwuFMZMPU(3QDu2zsg)%kX_S&ez+5C0o`DN4d5pdQ55gnxeOz!x8k^Xa^;vVi8O{9u"
        "b7syt9!tL|{=dI({d4yApEu5|kEN@B%h(=(P&H2pf-s6g8aknG?U5+<!T>~^V6Ng9-=owg776;E9e{M-RB({)kBAj}_ec!#0Tilc"
        "5eH*8j3^X!$&|6@1r$np!7MOF7!07S7m{S6$sjScDY5#VLqT*<+b0f1=~%fQ^+`nfm+*@M(wYHs)hsd9Bnn6$3Jwh;$6dD)>iMx^"
        "MWmN_e&3=bh{MR*Yba2xR?TuM5k~faKq*_IZ26&0cd|hR%H|22(`|M;^{%RRG*#1Tu$1oJ86{BBOV=nU+q$63x^x7~x~R)Xu=1<R"
        "_OwdjgaId0|3)@Ce#%8vccOF!U7iX(^1l#Dw3@Ygy#bH96<tAr)7uPx2#>Mm@eKY1g(nSoDuuhYzYAw(;Fob|3V(VAuGX5}b_1S4"
        "xP<U$+3u11oGu>1^BMdF3TF*?F}<^1WP1U;G(*3To>E<%D!e?W(CXs$UqJ;K6<$rx=MY|F3a@7hRSMX?kzQKt*uEXXo0)_=dlYKD"
        "(^fTj3t1wv-bU8iTE<wX@QwksbeCi}qWe(ii1OTaI^CuU4MYftXtM1H?4DY9tl|;0Gn`7HV}O?8c71ygLwDBcF!ZMmzdNU(HCi=z"
        "k00s#{7BC+htFs94GNnEd|+0xV6caTk_av=2-N8e1uib|Nn@dSi66^{OcBMlSo2Y)c$vb-27Gcq?dZS26$7p&X}knsG=yvE`1LGr"
        "?h<d{Qn-<?Rj<_>8f<g#4DQ_y)A}^i`i#Qo27Hmyd!8MG`7j9+NUJs4trmRANndf&*NpT{M!HGiTLUa}1(!uh5O~4B8WOB4w-yka"
        "b*%+9C-ykeVZ?q$BouZH7?{h)h<g}s?gC(2t<}Kez}p;nhXMTzIHV955SpjiQ6@vHXH&-|u|*@>xr5bb^l%`jU`z`QfZtejERbUg"
        ")PN*8fW0(6&|zx#ZEC~a^!s-v4hpb;0Qb_GHL1Yg>rx!Yy(|Gnq2t02x}4qtE4*;P19t~I3jC-`EarbYgs}lXvod>=mD!xKBj%M0"
        "DKEq2ygV!9rA9F?dP{j>R?bWRrMx;^$%`!|FFcm>u6QNydRECg`{OzOh}=rt%G?&XEpl7pw#@Akx0Si|!g=ArgfZT@_292_!rTmT"
        "s)^6WbREuSuQ;bun%OOzBW&Ui-!Z;_Y)W(fEbh<pC(nN{gys|"
    ),
}


def recorded(kind: str) -> bytes:
    return zlib.decompress(base64.b85decode(RECORDED[kind]))


@pytest.mark.parametrize("kind", RECORDED)
def test_what_pytorch_saved_is_read_to_the_bit(kind):
    content = parse_state(recorded(kind), Path("x.pth"))
    assert content["epoch"] == 3 and content["size"] == (2, 3)
    expected = {
        "turned": np.array([[0, 3], [1, 4], [2, 5]], "f4"),
        "part": np.array([3, 5]),
        "half": np.array([1.5, -2], "f2"),
        # bfloat16 keeps 8 bits: 0.1 is 0x3dcd.
        "brain": np.array([1, -3.5, struct.unpack("<f", b"\x00\x00\xcd\x3d")[0]], "f4"),
        "scalar": np.array(7),
        "empty": np.zeros((0, 3), "f4"),
        "flags": np.array([True, False]),
        "parameter": np.array([0.5], "f4"),
    }
    assert list(content["state_dict"]) == list(expected)
    for name, array in content["state_dict"].items():
        assert array.dtype == expected[name].dtype and array.shape == expected[name].shape
        np.testing.assert_array_equal(array, expected[name])
    assert list(content["norm"]) == ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    np.testing.assert_array_equal(content["norm"]["running_var"], [1, 1])


@pytest.mark.parametrize("kind", RECORDED)
def test_a_file_cut_anywhere_is_refused(kind):
    data = recorded(kind)
    for length in range(2, len(data), 97):
        with pytest.raises(PmtrainError, match="x.pth"):
            parse_state(data[:length], Path("x.pth"))


def archive(content: bytes, files: dict[str, bytes] | None = None, method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as whole:
        whole.writestr("archive/data.pkl", content)
        for name, data in (files or {}).items():
            whole.writestr(f"archive/{name}", data)
    return file.getvalue()


class Call:
    def __init__(self, function, *arguments):
        self.reduced = (function, arguments)

    def __reduce__(self):
        return self.reduced


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def tensor(offset: int = 0, shape: int = 2, stride: int = 1, count: int = 2, name: str = "FloatStorage") -> bytes:
    """The pickle of {"w": a tensor of one dimension}."""
    number = [b"J" + struct.pack("<i", value) for value in (count, offset, shape, stride)]
    storage = b"(" + text("storage") + f"ctorch\n{name}\n".encode() + text("0") + text("cpu") + number[0] + b"tQ"
    rest = number[1] + number[2] + b"\x85" + number[3] + b"\x85" + b"\x89N"
    return b"\x80\x02}" + text("w") + b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + rest + b"tRs."


def test_a_tensor_by_hand_is_read():
    data = archive(tensor(offset=1, shape=2, stride=2, count=4), {"data/0": struct.pack("<4f", 1, 2, 3, 4)})
    np.testing.assert_array_equal(parse_state(data, Path("x.pt"))["w"], [2, 4])


EIGHT = {"data/0": bytes(8)}
HOSTILE = {
    "exec": (archive(pickle.dumps({"w": Call(exec, "import builtins; builtins.canary = 1")}, 2)), "exec"),
    "eval in a stream": (
        recorded("stream")[:14]
        + b".\x80\x02"
        + pickle.dumps(Call(eval, "setattr(__import__('builtins'), 'canary', 1)"), 2),
        "eval",
    ),
    "a model": (archive(b"\x80\x02ctorchvision.models.resnet\nResNet\n."), "torchvision.models.resnet.ResNet"),
    "a storage is called": (
        archive(b"\x80\x02}" + text("w") + b"ctorch\nFloatStorage\n)Rs."),
        "calls torch.FloatStorage",
    ),
    "an unknown storage": (archive(tensor(name="QInt8Storage"), EIGHT), "torch.QInt8Storage"),
    "past the end": (archive(tensor(offset=1), EIGHT), "doesn't fit its storage"),
    "far past the end": (archive(tensor(stride=2**30), EIGHT), "doesn't fit its storage"),
    "before the start": (archive(tensor(stride=-1), EIGHT), "no storage, shape or strides"),
    "the same number many times": (archive(tensor(shape=2**30, stride=0), EIGHT), "doesn't fit its storage"),
    "a storage that is not there": (archive(tensor()), "no data/0"),
    "a short storage": (archive(tensor(count=3, shape=3), EIGHT), "12 bytes has 8"),
    "compressed": (archive(tensor(), {"data/0": bytes(1000)}, zipfile.ZIP_DEFLATED), "compressed"),
    "big endian": (archive(tensor(), EIGHT | {"byteorder": b"big"}), "big-endian"),
    "another zip": (b"PK\x03\x04" + bytes(100), "torch.save"),
    "no pickle": (archive(b"").replace(b"data.pkl", b"data.txt"), "no data.pkl"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_and_runs_nothing(name, monkeypatch):
    monkeypatch.delattr(builtins, "canary", raising=False)
    data, expected = HOSTILE[name]
    with pytest.raises(PmtrainError, match="evil.pth") as caught:
        parse_state(data, Path("evil.pth"))
    assert expected in str(caught.value)
    assert not hasattr(builtins, "canary")
