# SPDX-License-Identifier: Apache-2.0
"""Build the ROS 2 message packages of this folder for an environment that has ROS from the `ros-kilted-*` wheels.

The rosidl generators of the wheels write the C sources and gcc compiles them: no cmake, no colcon, and pip can
uninstall the result. Needs `pip install --no-build-isolation`, because generators, headers and libraries are those of
the environment that will use the messages. A machine with ROS from apt uses its own packages of the same names
instead.
"""

import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

PREFIX = Path(sys.prefix)
GENERATED = Path("build/rosidl")  # setuptools wants paths relative to this folder, its working directory
INTROSPECTION_GENERATED = Path("build/rosidl_introspection")  # two generators give their files the same names
LIBRARIES = Path("build/rosidl_libraries")
STRUCTURES = "rosidl_generator_c"
MIDDLEWARE_TYPE_SUPPORT = "rosidl_typesupport_fastrtps_c"  # the only middleware among the wheels
INTROSPECTION = "rosidl_typesupport_introspection_c"  # by which the middleware describes types to other participants
TYPE_SUPPORT = "rosidl_typesupport_c"  # opens the library of one of these, by its name, when it is asked for
TYPE_SUPPORTS = (MIDDLEWARE_TYPE_SUPPORT, INTROSPECTION)
RUNTIME_LIBRARIES = [
    "rosidl_runtime_c",
    TYPE_SUPPORT,
    *TYPE_SUPPORTS,
    "rosidl_typesupport_fastrtps_cpp",
    "fastcdr",
    "rcutils",
]
INDEX = "share/ament_index/resource_index"


@dataclass(frozen=True)
class MessagePackage:
    """A folder `<name>/` with `package.xml`, `msg/*.msg` and the ament marker `resource/<name>`."""

    name: str

    @property
    def generated(self) -> Path:
        """Folder of everything that the generators write for this package."""
        return GENERATED / self.name

    @property
    def introspection(self) -> Path:
        """Folder of the sources of INTROSPECTION."""
        return INTROSPECTION_GENERATED / self.name

    @property
    def interface_list(self) -> Path:
        """File that tells the ament index which interfaces the package has."""
        return GENERATED / "rosidl_interfaces" / self.name

    @property
    def messages(self) -> list[str]:
        """Names of the messages, sorted."""
        return sorted(path.stem for path in Path(self.name, "msg").glob("*.msg"))

    def data_files(self) -> list[tuple[str, list[str]]]:
        """What `ros2 interface` and other tools look up below `share/`; partly there only after `generate`."""
        sources = [f"{self.name}/msg/{message}.msg" for message in self.messages]
        generated = [str(self.generated / "msg" / f"{m}{kind}") for m in self.messages for kind in (".idl", ".json")]
        return [
            (f"{INDEX}/packages", [f"{self.name}/resource/{self.name}"]),
            (f"{INDEX}/rosidl_interfaces", [str(self.interface_list)]),
            (f"share/{self.name}", [f"{self.name}/package.xml"]),
            (f"share/{self.name}/msg", sources + generated),
            ("lib", [str(LIBRARIES / f"lib{self.library(kind)}.so") for kind in (STRUCTURES, *TYPE_SUPPORTS)]),
        ]

    def library(self, kind: str) -> str:
        """The name that ROS gives to the package's library of that kind."""
        return f"{self.name}__{kind}"

    def generate(self) -> None:
        """Write IDL, type hashes, C sources and Python classes to `generated`."""
        # Imported here: pip reads the metadata of this project also where rosidl is not installed.
        from rosidl_adapter.cli import TranslateMsgToIDL
        from rosidl_generator_c.cli import GenerateC
        from rosidl_generator_py.cli import GeneratePython
        from rosidl_generator_type_description.cli import HashTypeDescription
        from rosidl_typesupport_c.cli import GenerateCTypesupport
        from rosidl_typesupport_fastrtps_c.cli import GenerateFastRTPSCTypesupport
        from rosidl_typesupport_introspection_c.cli import GenerateIntrospectionCTypesupport

        for folder in (self.generated, self.introspection):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        out = self.generated.resolve()
        include = [str(PREFIX / "share")]
        msgs = [f"{Path(self.name).resolve()}:msg/{message}.msg" for message in self.messages]
        idls = TranslateMsgToIDL("msg2idl").translate(self.name, msgs, include, out)
        hashes = [str(path) for path in HashTypeDescription("hash").generate_type_hashes(self.name, idls, include, out)]
        GenerateC("c").generate(self.name, idls, include, out, type_description_files=hashes)
        GeneratePython("py", typesupport_implementations=[TYPE_SUPPORT]).generate(self.name, idls, include, out)
        GenerateCTypesupport("c", typesupport_implementations=TYPE_SUPPORTS).generate(self.name, idls, include, out)
        GenerateFastRTPSCTypesupport("fastrtps").generate(self.name, idls, include, out)
        introspection = self.introspection.resolve()
        GenerateIntrospectionCTypesupport("introspection").generate(self.name, idls, include, introspection)
        (out / "__init__.py").touch()
        interfaces = sorted(f"msg/{message}{kind}" for message in self.messages for kind in (".idl", ".msg"))
        self.interface_list.parent.mkdir(exist_ok=True)
        self.interface_list.write_text("\n".join(interfaces) + "\n")

    def sources(self) -> dict[str, list[str]]:
        """The generated sources of each library, and of the extension module, which is TYPE_SUPPORT's."""
        # The generator writes one module body (`.ep.`) per type support; Python imports the one of TYPE_SUPPORT.
        module = f"_{self.name}_s.ep.{TYPE_SUPPORT}.c"
        patterns = {
            STRUCTURES: (self.generated, ["msg/detail/*.c"]),
            MIDDLEWARE_TYPE_SUPPORT: (self.generated, ["msg/detail/*.cpp"]),
            INTROSPECTION: (self.introspection, ["msg/detail/*.c"]),
            TYPE_SUPPORT: (self.generated, ["msg/*.c", "msg/*.cpp", module]),
        }
        return {
            kind: sorted(str(path) for pattern in wanted for path in folder.glob(pattern))
            for kind, (folder, wanted) in patterns.items()
        }

    def message_libraries(self) -> list[str]:
        """Libraries of the packages whose messages ours contain, and of the standard messages that those contain."""
        idls = [path.read_text() for path in self.generated.rglob("*.idl")]
        used = {name for idl in idls for name in re.findall(r'#include "(\w+)/', idl)}
        kinds = (STRUCTURES, "rosidl_generator_py", TYPE_SUPPORT, *TYPE_SUPPORTS)
        names = [f"{p}__{kind}" for p in sorted((used | {"builtin_interfaces"}) - {self.name}) for kind in kinds]
        return [name for name in names if (PREFIX / "lib" / f"lib{name}.so").exists()]

    def extension(self) -> Extension:
        """The extension module; its sources are known once `generate` ran."""
        return Extension(f"{self.name}.{self.name}_s__{TYPE_SUPPORT}", sources=[], language="c++")


class BuildInterfaces(build_ext):
    """Generate each package's sources, compile them, and put its Python classes beside the compiled module."""

    def build_extensions(self) -> None:
        require_tools()
        os.environ["AMENT_PREFIX_PATH"] = str(PREFIX)  # where the generators look up their templates
        super().build_extensions()

    def build_extension(self, ext: Extension) -> None:
        import numpy

        package = MessagePackage(ext.name.partition(".")[0])
        package.generate()
        sources = package.sources()
        ext.sources = sources[TYPE_SUPPORT]
        includes = [GENERATED, INTROSPECTION_GENERATED, *sorted((PREFIX / "include").iterdir()), numpy.get_include()]
        ext.include_dirs = [str(folder) for folder in includes]
        ext.library_dirs = [str(LIBRARIES), str(PREFIX / "lib")]
        ext.libraries = package.message_libraries() + RUNTIME_LIBRARIES
        ext.define_macros = [("NDEBUG", None), (f"ROSIDL_TYPESUPPORT_FASTRTPS_C_BUILDING_DLL_{package.name}", None)]
        self.link_library(ext, package.library(STRUCTURES), sources[STRUCTURES])
        ext.libraries.insert(0, package.library(STRUCTURES))  # on which all that follows builds
        for kind in TYPE_SUPPORTS:
            self.link_library(ext, package.library(kind), sources[kind])
        ext.extra_link_args = ["-Wl,-rpath,$ORIGIN/../../..", f"-Wl,-rpath-link,{PREFIX / 'lib'}"]

        modules = Path(self.build_lib, package.name)
        shutil.rmtree(modules, ignore_errors=True)
        for source in package.generated.rglob("*.py"):
            target = modules / source.relative_to(package.generated)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        super().build_extension(ext)

    def link_library(self, ext: Extension, name: str, sources: list[str]) -> None:
        """Compile sources like those of the extension module, into a library that is installed in `lib/`."""
        objects = self.compiler.compile(
            sources, output_dir=self.build_temp, macros=ext.define_macros, include_dirs=ext.include_dirs
        )
        self.compiler.link_shared_object(
            objects,
            str(LIBRARIES / f"lib{name}.so"),
            libraries=ext.libraries,
            library_dirs=ext.library_dirs,
            extra_postargs=["-Wl,-rpath,$ORIGIN", f"-Wl,-rpath-link,{PREFIX / 'lib'}", f"-Wl,-soname,lib{name}.so"],
            target_lang="c++",
        )


def require_tools() -> None:
    """Leave with one sentence where the generators or a compiler are missing."""
    try:
        import rosidl_generator_py  # noqa: F401
    except ImportError:
        sys.exit(
            f"The message packages need rosidl in {PREFIX}: install ros-kilted-rclpy and ros-kilted-rmw-fastrtps-cpp "
            "there, then run pip install --no-build-isolation ./interfaces."
        )
    missing = [tool for tool in ("gcc", "g++") if shutil.which(tool) is None]
    if missing:
        sys.exit(f"The message packages need a C and C++ compiler, but {' and '.join(missing)} is not on the PATH.")


PACKAGES = [MessagePackage("dvs_msgs"), MessagePackage("event_camera_msgs"), MessagePackage("vision_msgs")]

setup(
    name="aegnn-ros-interfaces",
    version="1.0.0",
    description="dvs_msgs, event_camera_msgs and the needed part of vision_msgs for ROS 2 Kilted from wheels",
    license="Apache-2.0",
    packages=[],
    ext_modules=[package.extension() for package in PACKAGES],
    data_files=[entry for package in PACKAGES for entry in package.data_files()],
    cmdclass={"build_ext": BuildInterfaces},
    zip_safe=False,
)
