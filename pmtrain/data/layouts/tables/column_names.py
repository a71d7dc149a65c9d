"""The usual names of a table's columns, by what they contain."""

from __future__ import annotations

import itertools
import re
import unicodedata


def _each(starts: str, ends: str) -> set[str]:
    """Every start with every end, and alone."""
    return set(starts.split()) | {"".join(both) for both in itertools.product(starts.split(), ends.split())}


# In lower case without spaces, `_`, `-` and `.`. Names of the second set are used only if there is none of the first: a
# table may have both a label and a grade.
COLUMNS: dict[str, tuple[set[str], set[str]]] = {
    "path": (
        _each("file image img", "path name") | {"path", "imagefile"},
        _each("file image img", "s paths names filename filepath")
        | {"paths", "imgfile", "pathname", "relativepath", "relpath", "fullpath"}
        | _each("image img file isic photo picture fundus scan", "id code index number no url path name")
        | {"fname", "idcode", "imagekey", "scanname", "fundusimage"}
        | {"bild", "datei", "dateiname", "bilddatei", "bildname", "dateipfad", "pfad", "aufnahme"}
        | {"fichier", "imagen", "archivo", "arquivo", "imagem", "immagine", "plik", "dosya", "файл", "изображение"}
        | {
            "文件",
            "文件名",
            "文件名称",
            "文件路径",
            "路径",
            "图片路径",
            "图片",
            "图片名",
            "图片名称",
            "图像",
            "图像名",
            "图像名称",
            "影像",
        }
        | {"檔名", "檔案名稱", "圖片", "圖像", "画像", "ファイル", "ファイル名", "画像名", "파일", "파일명", "이미지"},
    ),
    "label": (
        {"label", "labels", "class", "target", "diagnosis"},
        _each("class label", "name names id index code")
        | {"classes", "targets", "diagnoses", "groundtruth", "gt"}
        | {"level", "grade", "dx", "category", "result", "outcome", "finding", "findings", "findinglabels", "y"}
        | {"classification", "condition", "disease", "pathology", "annotation", "imagelabel", "finaldiagnosis"}
        | {"klasse", "diagnose", "diagnosen", "befund", "ergebnis", "bewertung", "krankheit", "erkrankung"}
        | {"étiquette", "classe", "diagnostic", "résultat", "etiqueta", "clase", "diagnóstico", "diagnostico"}
        | {"resultado", "rótulo", "etichetta", "diagnosi", "etykieta", "diagnoza", "etiket", "tanı", "метка"}
        | {"диагноз", "класс", "результат"}
        | {
            "标签",
            "类别",
            "分类",
            "诊断",
            "诊断结果",
            "结果",
            "疾病",
            "病变",
            "标注",
            "標籤",
            "類別",
            "診斷",
            "診斷結果",
        }
        | {"ラベル", "診断", "診断名", "診断結果", "所見", "分類", "라벨", "진단", "진단명", "결과"},
    ),
    "split": (
        {"split", "set", "subset", "partition"},
        {"isvalid", "isval", "istrain", "istest", "fold"},
    ),
    "patient": (
        _each("patient subject participant proband", "id ids no nr num number code key name uid identifier index")
        | {"patients", "subjects", "pid", "ptid", "patid", "personid", "caseid", "mrn", "patientsid"},
        {"患者", "病人", "患者编号", "患者号", "患者id", "患者姓名", "病人编号", "病人号", "病人id", "病历号", "受试者"}
        | {"患者編號", "病人編號", "病歷號", "患者番号"}
        | {"patientennummer", "patientennr", "patientenid", "patnr", "patientnummer"}
        | {
            "paciente",
            "idpaciente",
            "pacjent",
            "paziente",
            "hasta",
            "hastano",
            "пациент",
            "환자",
            "환자id",
            "환자번호",
        },
    ),
}
LABEL_ENDS = ("label", "labels", "grade", "diagnosis", "class", "level", "诊断", "标签", "分级")  # DR_grade, left_label
# Columns of split names that hold True or False, by name: the split of True, that of False.
FLAGS = {
    "isvalid": ("val", "train"),
    "isval": ("val", "train"),
    "istrain": ("train", "val"),
    "istest": ("test", "train"),
}
# What is never the label, if nobody says so.
EYE_NAMES = {"eye", "laterality", "eyeside", "side", "auge", "seite", "oeil", "œil", "ojo", "眼", "眼别", "眼睛"}
OTHERS = EYE_NAMES | {"sex", "gender", "age", "date", "camera", "quality", "geschlecht", "alter", "datum", "kamera"}
OTHERS |= {"性别", "年龄", "日期"}


def plain(name: str) -> str:
    """A column name in lower case and usual width, without spaces, `_`, `-` and `.`."""
    return re.sub(r"[\s_.-]+", "", unicodedata.normalize("NFKC", name).lower())


def usual_names(role: str) -> set[str]:
    """All names in COLUMNS for a role."""
    return set().union(*COLUMNS[role])
