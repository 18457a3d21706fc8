from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RtaRequest(_message.Message):
    __slots__ = ("id", "is_ping", "is_test", "device", "request_info", "ad_infos")
    class OperatingSystem(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        OS_UNKNOWN: _ClassVar[RtaRequest.OperatingSystem]
        OS_IOS: _ClassVar[RtaRequest.OperatingSystem]
        OS_ANDROID: _ClassVar[RtaRequest.OperatingSystem]
        OS_WINDOWS: _ClassVar[RtaRequest.OperatingSystem]
        OS_SYMBIAN: _ClassVar[RtaRequest.OperatingSystem]
        OS_JAVA: _ClassVar[RtaRequest.OperatingSystem]
        OS_MAC: _ClassVar[RtaRequest.OperatingSystem]
        OS_HARMONY: _ClassVar[RtaRequest.OperatingSystem]
    OS_UNKNOWN: RtaRequest.OperatingSystem
    OS_IOS: RtaRequest.OperatingSystem
    OS_ANDROID: RtaRequest.OperatingSystem
    OS_WINDOWS: RtaRequest.OperatingSystem
    OS_SYMBIAN: RtaRequest.OperatingSystem
    OS_JAVA: RtaRequest.OperatingSystem
    OS_MAC: RtaRequest.OperatingSystem
    OS_HARMONY: RtaRequest.OperatingSystem
    class Device(_message.Message):
        __slots__ = ("os", "idfa_md5sum", "imei_md5sum", "android_id_md5sum", "mac_md5sum", "oaid_md5sum", "doubtful_ids_list", "cached_deviceid_type", "qaid_infos")
        class DeviceIdTag(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
            __slots__ = ()
            IDFA_MD5_DOUBTFUL: _ClassVar[RtaRequest.Device.DeviceIdTag]
            IMEI_MD5_DOUBTFUL: _ClassVar[RtaRequest.Device.DeviceIdTag]
            ANDROIDID_MD5_DOUBTFUL: _ClassVar[RtaRequest.Device.DeviceIdTag]
            MAC_MD5_DOUBTFUL: _ClassVar[RtaRequest.Device.DeviceIdTag]
            OAID_MD5_DOUBTFUL: _ClassVar[RtaRequest.Device.DeviceIdTag]
            OAID_DOUBTFUL: _ClassVar[RtaRequest.Device.DeviceIdTag]
            QAID_DOUBTFUL: _ClassVar[RtaRequest.Device.DeviceIdTag]
        IDFA_MD5_DOUBTFUL: RtaRequest.Device.DeviceIdTag
        IMEI_MD5_DOUBTFUL: RtaRequest.Device.DeviceIdTag
        ANDROIDID_MD5_DOUBTFUL: RtaRequest.Device.DeviceIdTag
        MAC_MD5_DOUBTFUL: RtaRequest.Device.DeviceIdTag
        OAID_MD5_DOUBTFUL: RtaRequest.Device.DeviceIdTag
        OAID_DOUBTFUL: RtaRequest.Device.DeviceIdTag
        QAID_DOUBTFUL: RtaRequest.Device.DeviceIdTag
        class CacheDeviceIdType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
            __slots__ = ()
            IDFA_MD5: _ClassVar[RtaRequest.Device.CacheDeviceIdType]
            IMEI_MD5: _ClassVar[RtaRequest.Device.CacheDeviceIdType]
            OAID: _ClassVar[RtaRequest.Device.CacheDeviceIdType]
            OAID_MD5: _ClassVar[RtaRequest.Device.CacheDeviceIdType]
            ANDROIDID_MD5: _ClassVar[RtaRequest.Device.CacheDeviceIdType]
            MAC_MD5: _ClassVar[RtaRequest.Device.CacheDeviceIdType]
            NIL: _ClassVar[RtaRequest.Device.CacheDeviceIdType]
            QAID: _ClassVar[RtaRequest.Device.CacheDeviceIdType]
        IDFA_MD5: RtaRequest.Device.CacheDeviceIdType
        IMEI_MD5: RtaRequest.Device.CacheDeviceIdType
        OAID: RtaRequest.Device.CacheDeviceIdType
        OAID_MD5: RtaRequest.Device.CacheDeviceIdType
        ANDROIDID_MD5: RtaRequest.Device.CacheDeviceIdType
        MAC_MD5: RtaRequest.Device.CacheDeviceIdType
        NIL: RtaRequest.Device.CacheDeviceIdType
        QAID: RtaRequest.Device.CacheDeviceIdType
        class QaidInfo(_message.Message):
            __slots__ = ("version", "qaid", "origin_version", "qaid_md5sum")
            VERSION_FIELD_NUMBER: _ClassVar[int]
            QAID_FIELD_NUMBER: _ClassVar[int]
            ORIGIN_VERSION_FIELD_NUMBER: _ClassVar[int]
            QAID_MD5SUM_FIELD_NUMBER: _ClassVar[int]
            version: int
            qaid: str
            origin_version: str
            qaid_md5sum: str
            def __init__(self, version: _Optional[int] = ..., qaid: _Optional[str] = ..., origin_version: _Optional[str] = ..., qaid_md5sum: _Optional[str] = ...) -> None: ...
        OS_FIELD_NUMBER: _ClassVar[int]
        IDFA_MD5SUM_FIELD_NUMBER: _ClassVar[int]
        IMEI_MD5SUM_FIELD_NUMBER: _ClassVar[int]
        ANDROID_ID_MD5SUM_FIELD_NUMBER: _ClassVar[int]
        MAC_MD5SUM_FIELD_NUMBER: _ClassVar[int]
        OAID_MD5SUM_FIELD_NUMBER: _ClassVar[int]
        DOUBTFUL_IDS_LIST_FIELD_NUMBER: _ClassVar[int]
        CACHED_DEVICEID_TYPE_FIELD_NUMBER: _ClassVar[int]
        QAID_INFOS_FIELD_NUMBER: _ClassVar[int]
        os: RtaRequest.OperatingSystem
        idfa_md5sum: str
        imei_md5sum: str
        android_id_md5sum: str
        mac_md5sum: str
        oaid_md5sum: str
        doubtful_ids_list: _containers.RepeatedScalarFieldContainer[RtaRequest.Device.DeviceIdTag]
        cached_deviceid_type: RtaRequest.Device.CacheDeviceIdType
        qaid_infos: _containers.RepeatedCompositeFieldContainer[RtaRequest.Device.QaidInfo]
        def __init__(self, os: _Optional[_Union[RtaRequest.OperatingSystem, str]] = ..., idfa_md5sum: _Optional[str] = ..., imei_md5sum: _Optional[str] = ..., android_id_md5sum: _Optional[str] = ..., mac_md5sum: _Optional[str] = ..., oaid_md5sum: _Optional[str] = ..., doubtful_ids_list: _Optional[_Iterable[_Union[RtaRequest.Device.DeviceIdTag, str]]] = ..., cached_deviceid_type: _Optional[_Union[RtaRequest.Device.CacheDeviceIdType, str]] = ..., qaid_infos: _Optional[_Iterable[_Union[RtaRequest.Device.QaidInfo, _Mapping]]] = ...) -> None: ...
    class RequestInfo(_message.Message):
        __slots__ = ("request_type",)
        class RequestType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
            __slots__ = ()
            NORMAL_REQUEST: _ClassVar[RtaRequest.RequestInfo.RequestType]
            ADLIST_REQUEST: _ClassVar[RtaRequest.RequestInfo.RequestType]
        NORMAL_REQUEST: RtaRequest.RequestInfo.RequestType
        ADLIST_REQUEST: RtaRequest.RequestInfo.RequestType
        REQUEST_TYPE_FIELD_NUMBER: _ClassVar[int]
        request_type: RtaRequest.RequestInfo.RequestType
        def __init__(self, request_type: _Optional[_Union[RtaRequest.RequestInfo.RequestType, str]] = ...) -> None: ...
    class AdInfo(_message.Message):
        __slots__ = ("adgroup_id", "advertiser_id", "out_target_id")
        ADGROUP_ID_FIELD_NUMBER: _ClassVar[int]
        ADVERTISER_ID_FIELD_NUMBER: _ClassVar[int]
        OUT_TARGET_ID_FIELD_NUMBER: _ClassVar[int]
        adgroup_id: int
        advertiser_id: int
        out_target_id: str
        def __init__(self, adgroup_id: _Optional[int] = ..., advertiser_id: _Optional[int] = ..., out_target_id: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    IS_PING_FIELD_NUMBER: _ClassVar[int]
    IS_TEST_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_INFO_FIELD_NUMBER: _ClassVar[int]
    AD_INFOS_FIELD_NUMBER: _ClassVar[int]
    id: str
    is_ping: bool
    is_test: bool
    device: RtaRequest.Device
    request_info: RtaRequest.RequestInfo
    ad_infos: _containers.RepeatedCompositeFieldContainer[RtaRequest.AdInfo]
    def __init__(self, id: _Optional[str] = ..., is_ping: _Optional[bool] = ..., is_test: _Optional[bool] = ..., device: _Optional[_Union[RtaRequest.Device, _Mapping]] = ..., request_info: _Optional[_Union[RtaRequest.RequestInfo, _Mapping]] = ..., ad_infos: _Optional[_Iterable[_Union[RtaRequest.AdInfo, _Mapping]]] = ...) -> None: ...

class RtaResponse(_message.Message):
    __slots__ = ("request_id", "code", "response_cache_time", "out_target_id", "target_infos", "dsp_tag_str")
    class TargetInfo(_message.Message):
        __slots__ = ("out_target_id", "cpc_price", "cpa_price", "user_weight_factor", "dsp_tag_str")
        OUT_TARGET_ID_FIELD_NUMBER: _ClassVar[int]
        CPC_PRICE_FIELD_NUMBER: _ClassVar[int]
        CPA_PRICE_FIELD_NUMBER: _ClassVar[int]
        USER_WEIGHT_FACTOR_FIELD_NUMBER: _ClassVar[int]
        DSP_TAG_STR_FIELD_NUMBER: _ClassVar[int]
        out_target_id: str
        cpc_price: int
        cpa_price: int
        user_weight_factor: float
        dsp_tag_str: str
        def __init__(self, out_target_id: _Optional[str] = ..., cpc_price: _Optional[int] = ..., cpa_price: _Optional[int] = ..., user_weight_factor: _Optional[float] = ..., dsp_tag_str: _Optional[str] = ...) -> None: ...
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_CACHE_TIME_FIELD_NUMBER: _ClassVar[int]
    OUT_TARGET_ID_FIELD_NUMBER: _ClassVar[int]
    TARGET_INFOS_FIELD_NUMBER: _ClassVar[int]
    DSP_TAG_STR_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    code: int
    response_cache_time: int
    out_target_id: _containers.RepeatedScalarFieldContainer[str]
    target_infos: _containers.RepeatedCompositeFieldContainer[RtaResponse.TargetInfo]
    dsp_tag_str: str
    def __init__(self, request_id: _Optional[str] = ..., code: _Optional[int] = ..., response_cache_time: _Optional[int] = ..., out_target_id: _Optional[_Iterable[str]] = ..., target_infos: _Optional[_Iterable[_Union[RtaResponse.TargetInfo, _Mapping]]] = ..., dsp_tag_str: _Optional[str] = ...) -> None: ...
